-- The publications of the source, by example (the schema of `crossfade demo`). Run by the owner of the tables or a
-- superuser, in the source database, before the first `crossfade run`: crossfade's role owns no tables, so it cannot.
-- `crossfade check` prints these statements for your own mapping; prefer those to editing this file.
--
--   psql -d shop -v ON_ERROR_STOP=1 -v publication=crossfade \
--        -v append_publication=crossfade_append -f publication.sql
--
-- Both are needed before the slot exists: decoding looks a publication up as of the change it decodes, and stops for
-- good at a change older than the publication.

-- Tables with a primary key (or another replica identity). Name them; FOR ALL TABLES would also publish tables whose
-- UPDATEs and DELETEs start to fail that very moment, because they have no replica identity. Partitioned tables are
-- published as the root they are, so publish_via_partition_root is required.
CREATE PUBLICATION :"publication"
    FOR TABLE
        public.users,
        public.categories,
        public.products,
        public.warehouses,
        public.orders,
        public.order_lines,
        public.shipments,
        public.events
    WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true);

-- Tables without a key that are only ever inserted into (`append_only` in the mapping): their UPDATEs and DELETEs go on
-- working because they are not published. The name is the first one's with _append.
CREATE PUBLICATION :"append_publication"
    FOR TABLE
        public.audit_log
    WITH (publish = 'insert, truncate', publish_via_partition_root = true);
