-- The role crossfade writes the target with. PostgreSQL 13 to 18. Run by a superuser (or by the owner of database and
-- tables, with CREATEROLE) in the target database, once for each schema that holds target tables; it may be run again,
-- and must be when tables were added.
--
--   psql -d shop -v ON_ERROR_STOP=1 -v role=crossfade -v schema=app -f target-role.sql
--   psql -d shop -c '\password crossfade'
--
-- and in pg_hba.conf:
--
--   hostssl  shop  crossfade  10.0.0.0/8  scram-sha-256
--
-- See target-replica-role.sql for the one right that is not here.

SELECT pg_catalog.set_config('crossfade.role', :'role', false);

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = current_setting('crossfade.role')) THEN
        EXECUTE format('CREATE ROLE %I', current_setting('crossfade.role'));
    END IF;
    -- crossfade keeps its position and its id maps beside the rows, in a schema it owns: both are one transaction.
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'crossfade') THEN
        CREATE SCHEMA crossfade;
        EXECUTE format('ALTER SCHEMA crossfade OWNER TO %I', current_setting('crossfade.role'));
    END IF;
END
$$;

ALTER ROLE :"role" LOGIN;

-- TEMPORARY only where the mapping holds SQL: `check` tries it on a temporary table.
GRANT CONNECT, TEMPORARY ON DATABASE :"DBNAME" TO :"role";

-- TRUNCATE: a TRUNCATE on the source is repeated on the target, and a table whose copy starts over is emptied first.
GRANT USAGE ON SCHEMA :"schema" TO :"role";
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA :"schema" TO :"role";

-- For the cutover, which sets the sequences:
GRANT SELECT, USAGE, UPDATE ON ALL SEQUENCES IN SCHEMA :"schema" TO :"role";
