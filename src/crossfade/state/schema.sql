-- Crossfade's own tables in the target, version 5. Created by `run`, or by a DBA from deploy/sql/.
-- Statements are separated by a line that holds only "--;" and each may be run twice.
-- (CREATE SCHEMA IF NOT EXISTS wants CREATE on the database even when the schema exists; our role often lacks it.)
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'crossfade') THEN
        CREATE SCHEMA crossfade;
    END IF;
END
$$
--;
CREATE TABLE IF NOT EXISTS crossfade.version (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version integer NOT NULL,
    upgraded_at timestamptz NOT NULL DEFAULT now()
)
--;
-- One row per workflow, written only by whoever leads it, in the same transaction as the rows it accounts for.
CREATE TABLE IF NOT EXISTS crossfade.progress (
    workflow text PRIMARY KEY,
    end_lsn pg_lsn,                       -- everything before it is in the target; NULL until the slot has a position
    epoch bigint NOT NULL,                -- moved on by each new leader: fences the one before
    system_identifier text NOT NULL,      -- the source we belong to (IDENTIFY_SYSTEM)
    timeline integer NOT NULL,
    source_database text NOT NULL,
    slot text NOT NULL,                   -- recorded before it is created
    slot_start pg_lsn,                    -- its consistent point
    published jsonb,                      -- what the publications held when the copy began
    mapping_hash text NOT NULL,
    sample_passed_at timestamptz,         -- source clock: the newest sample the position has passed
    updated_at timestamptz NOT NULL DEFAULT now()
)
--;
-- What people see; kept apart from progress so that it never waits for an open transaction of the applier.
CREATE TABLE IF NOT EXISTS crossfade.workflows (
    workflow text PRIMARY KEY,
    phase text NOT NULL,
    phase_since timestamptz NOT NULL DEFAULT now(),
    paused text,
    error text,
    daemon text,                          -- host and pid of the leader
    seen_at timestamptz NOT NULL DEFAULT now()
)
--;
CREATE TABLE IF NOT EXISTS crossfade.copy_tables (
    workflow text NOT NULL,
    target_schema text NOT NULL,
    target_name text NOT NULL,
    source_schema text NOT NULL,
    source_name text NOT NULL,
    state text NOT NULL,                  -- pending | done
    from_lsn pg_lsn,                      -- the stream skips what was committed before it
    copied_rows bigint NOT NULL DEFAULT 0,
    copied_bytes bigint NOT NULL DEFAULT 0,
    rows_estimated bigint NOT NULL DEFAULT 0,
    started_at timestamptz,
    finished_at timestamptz,
    PRIMARY KEY (workflow, target_schema, target_name)
)
--;
-- Which reading of the source, at one snapshot, may mark the table or its parts: fences those before it. (Since version 2.)
ALTER TABLE crossfade.copy_tables ADD COLUMN IF NOT EXISTS attempt bigint NOT NULL DEFAULT 0
--;
-- The parts of tables that are copied in several. (Since version 2.)
CREATE TABLE IF NOT EXISTS crossfade.copy_parts (
    workflow text NOT NULL,
    target_schema text NOT NULL,
    target_name text NOT NULL,
    part integer NOT NULL,
    attempt bigint NOT NULL,
    relation text,                        -- the leaf partition it is of, NULL: the table itself
    range_of text NOT NULL,               -- ctid, a key column, or '' for all of it
    range_lower bigint,                   -- NULL: no bound
    range_upper bigint,
    state text NOT NULL,                  -- pending | done
    copied_rows bigint NOT NULL DEFAULT 0,
    copied_bytes bigint NOT NULL DEFAULT 0,
    finished_at timestamptz,
    PRIMARY KEY (workflow, target_schema, target_name, part)
)
--;
-- A target table may have several sources, which are in both keys. (Since version 4.)
ALTER TABLE crossfade.copy_parts ADD COLUMN IF NOT EXISTS source_schema text, ADD COLUMN IF NOT EXISTS source_name text
--;
UPDATE crossfade.copy_parts p SET source_schema = t.source_schema, source_name = t.source_name
    FROM crossfade.copy_tables t
    WHERE p.source_name IS NULL
    AND (t.workflow, t.target_schema, t.target_name) = (p.workflow, p.target_schema, p.target_name)
--;
ALTER TABLE crossfade.copy_parts DROP CONSTRAINT IF EXISTS copy_parts_pkey
--;
ALTER TABLE crossfade.copy_parts
    ADD PRIMARY KEY (workflow, target_schema, target_name, source_schema, source_name, part)
--;
ALTER TABLE crossfade.copy_tables DROP CONSTRAINT IF EXISTS copy_tables_pkey
--;
ALTER TABLE crossfade.copy_tables
    ADD PRIMARY KEY (workflow, target_schema, target_name, source_schema, source_name)
--;
-- Of a table whose copy is not finished: the snapshot that its finished parts show, and what they rest on (a hash of
-- the mapping and of the source's files). Both go on to the next snapshot, or the parts do not. (Since version 5.)
ALTER TABLE crossfade.copy_tables ADD COLUMN IF NOT EXISTS shows_lsn pg_lsn, ADD COLUMN IF NOT EXISTS basis text
--;
-- Where the dot is in `relation`. (Since version 5.)
ALTER TABLE crossfade.copy_parts ADD COLUMN IF NOT EXISTS relation_schema text
--;
-- The mappings this workflow has run with, as written; the one of the highest number is in progress. (Since version 3.)
CREATE TABLE IF NOT EXISTS crossfade.mappings (
    workflow text NOT NULL,
    number integer NOT NULL,
    mapping_hash text NOT NULL,
    file text NOT NULL,
    text text NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    why text NOT NULL,                    -- what made it the one in progress, for people
    PRIMARY KEY (workflow, number)
)
--;
CREATE TABLE IF NOT EXISTS crossfade.control (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workflow text NOT NULL,
    command text NOT NULL,                -- pause | resume
    requested_by text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT now(),
    taken_at timestamptz,
    outcome text
)
--;
INSERT INTO crossfade.version AS v (version) VALUES (5)
    ON CONFLICT (only_row) DO UPDATE SET version = excluded.version, upgraded_at = now()
    WHERE v.version < excluded.version
