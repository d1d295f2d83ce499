-- The role crossfade reads the source with. PostgreSQL 13 to 18. Run by a superuser in the source database, once for
-- each schema that holds published tables; it may be run again.
--
--   psql -d shop -v ON_ERROR_STOP=1 -v role=crossfade -v schema=public -f source-role.sql
--   psql -d shop -c '\password crossfade'
--
-- Then let it in, in pg_hba.conf (a logical replication connection is matched by the name of its database; the word
-- "replication" there is for physical replication only), and reload:
--
--   hostssl  shop  crossfade  10.0.0.0/8  scram-sha-256

SELECT pg_catalog.set_config('crossfade.role', :'role', false);

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = current_setting('crossfade.role')) THEN
        EXECUTE format('CREATE ROLE %I', current_setting('crossfade.role'));
    END IF;
END
$$;

-- REPLICATION lets it make and read its slot. It also lets it read every publication of this database: publications
-- know no privileges, so what must not leave this server must not be published.
-- (Amazon RDS: GRANT rds_replication TO the role; Azure and Cloud SQL: as here, by their administrator's role.)
ALTER ROLE :"role" LOGIN REPLICATION;

GRANT CONNECT ON DATABASE :"DBNAME" TO :"role";

-- The initial copy reads the tables as they are. Name single tables instead of ALL TABLES if you prefer: those of the
-- mapping are enough, and `crossfade check` prints what is missing.
GRANT USAGE ON SCHEMA :"schema" TO :"role";
GRANT SELECT ON ALL TABLES IN SCHEMA :"schema" TO :"role";
GRANT SELECT ON ALL SEQUENCES IN SCHEMA :"schema" TO :"role";

-- Tables made later are not covered by the grants above. As the role that makes them:
--   ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO crossfade;

-- Optional: with it, findings and alarms can tell what a session does that blocks us, not only that there is one.
--   GRANT pg_monitor TO crossfade;
