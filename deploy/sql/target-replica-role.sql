-- Lets crossfade switch off triggers and foreign key checks for its own sessions on the target
-- (session_replication_role = replica), as PostgreSQL's own logical replication does: the rows it brings were checked
-- on the source already. PostgreSQL 15 and newer. Run by a superuser, once for the server.
--
--   psql -d shop -v ON_ERROR_STOP=1 -v role=crossfade -f target-replica-role.sql
--
-- PostgreSQL 13 and 14 know no such grant: only a superuser may set it there. Either let crossfade be a superuser on
-- the target while the migration lasts (ALTER ROLE crossfade SUPERUSER; and NOSUPERUSER afterwards), or go without.
--
-- Without it crossfade orders its writes by the foreign keys, and `crossfade check` refuses what cannot be ordered:
-- user triggers and rules on target tables, foreign key cycles, and ON DELETE or ON UPDATE actions.

GRANT SET ON PARAMETER session_replication_role TO :"role";
