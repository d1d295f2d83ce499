-- Fills schema app from schema public of the same database, the slow and obvious way, with id maps as crossfade keeps
-- them. What crossfade should do, done by somebody else.
CREATE SCHEMA crossfade;
CREATE TABLE crossfade.id_user AS SELECT id AS old, gen_random_uuid() AS new FROM public.users;
CREATE TABLE crossfade.id_order AS SELECT id AS old, gen_random_uuid() AS new FROM public.orders;
CREATE TABLE crossfade.id_product AS
SELECT id AS old, gen_random_uuid() AS new FROM public.products
 UNION ALL SELECT DISTINCT product_id, md5('orphan ' || product_id)::uuid
             FROM public.audit_log WHERE product_id NOT IN (SELECT id FROM public.products);
CREATE TABLE crossfade.id_shipment AS SELECT id AS old, gen_random_uuid() AS new FROM public.shipments;
CREATE TABLE crossfade.id_warehouse AS SELECT code AS old, gen_random_uuid() AS new FROM public.warehouses;
CREATE TABLE crossfade.id_category AS SELECT id AS old, id + 1000000::bigint AS new FROM public.categories;

SET session_replication_role = replica;
SET search_path = public;
INSERT INTO app.accounts
SELECT k.new, email, name, plan_code, r.new, tags, birthday, balance, last_ip, false, 'en-US',
       created_at AT TIME ZONE 'America/New_York', last_login AT TIME ZONE 'America/New_York',
       expires_at AT TIME ZONE 'America/New_York', deleted_at AT TIME ZONE 'America/New_York'
  FROM users AS s JOIN crossfade.id_user AS k ON k.old = s.id LEFT JOIN crossfade.id_user AS r ON r.old = referred_by;
INSERT INTO app.product_categories SELECT 1000000 + id, 1000000 + parent_id, name, position FROM categories;
INSERT INTO app.products
SELECT k.new, sku, 1000000 + category_id, name, description, attributes, photo,
       flags::text[]::app.product_flag[], price, 'USD', weight, rating, warranty, stock, is_active,
       CASE WHEN updated_at BETWEEN '2025-11-02 01:00' AND '2025-11-02 01:59:59.999999'
            THEN updated_at::text || '-04' ELSE (updated_at AT TIME ZONE 'America/New_York')::text END::timestamptz
  FROM products AS s JOIN crossfade.id_product AS k ON k.old = s.id;
INSERT INTO app.warehouses SELECT k.new, city, opened_on FROM warehouses JOIN crossfade.id_warehouse AS k ON k.old = code;
INSERT INTO app.orders
SELECT k.new, u.new, status::text::app.order_status, total, note, 'legacy',
       placed_at AT TIME ZONE 'America/New_York', shipped_on
  FROM orders AS s JOIN crossfade.id_order AS k ON k.old = s.id JOIN crossfade.id_user AS u ON u.old = user_id;
INSERT INTO app.order_items
SELECT o.new, line_no, p.new, quantity, unit_price, discounts
  FROM order_lines JOIN crossfade.id_order AS o ON o.old = order_id JOIN crossfade.id_product AS p ON p.old = product_id;
INSERT INTO app.shipments
SELECT k.new, o.new, line_no, w.new, tracking, weights, sent_at AT TIME ZONE 'America/New_York'
  FROM shipments AS s JOIN crossfade.id_shipment AS k ON k.old = s.id JOIN crossfade.id_order AS o ON o.old = order_id
  LEFT JOIN crossfade.id_warehouse AS w ON w.old = warehouse_code;
INSERT INTO app.audit_log (at, actor, action, product_id, detail)
SELECT at AT TIME ZONE 'America/New_York', actor, action, p.new, detail
  FROM audit_log LEFT JOIN crossfade.id_product AS p ON p.old = product_id;
INSERT INTO app.activity
SELECT id, occurred_at AT TIME ZONE 'America/New_York', kind, u.new, payload
  FROM events LEFT JOIN crossfade.id_user AS u ON u.old = user_id;
