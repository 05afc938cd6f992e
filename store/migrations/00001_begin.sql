-- The SQL here and in package store keeps to what SQLite and PostgreSQL read alike: text ids,
-- BIGINT microseconds since 1970 in UTC with 0 for "not yet", TEXT for JSON, no clock of the
-- database. Stages and jobs have no table: they are read from GitLab when somebody asks.
--
-- What a commit costs is the number of pages it changes. Ids and keys are random, so each index on
-- one of them costs every new operation a page of its own; rows that belong to an operation name
-- it by nr, which grows, and stand side by side. WITHOUT ROWID, the only words of SQLite alone,
-- saves the second tree that it would keep beside each primary key.

-- +goose Up

-- What was asked, by whom, and which run is the current one.
CREATE TABLE operations (
    nr              INTEGER PRIMARY KEY,
    id              TEXT    NOT NULL UNIQUE,
    request_key     TEXT    NOT NULL UNIQUE,
    actor_platform  TEXT    NOT NULL,
    actor_workspace TEXT    NOT NULL,
    actor_user      TEXT    NOT NULL,
    actor_name      TEXT    NOT NULL,
    from_platform   TEXT    NOT NULL,
    from_workspace  TEXT    NOT NULL,
    from_channel    TEXT    NOT NULL,
    from_thread     TEXT    NOT NULL,
    action          TEXT    NOT NULL,
    cluster         TEXT    NOT NULL,
    instance        TEXT    NOT NULL,
    params          TEXT    NOT NULL,
    why             TEXT    NOT NULL,
    run             BIGINT  NOT NULL,
    unfinished      BOOLEAN NOT NULL,
    version         BIGINT  NOT NULL,
    created_at      BIGINT  NOT NULL,
    changed_at      BIGINT  NOT NULL
);

-- One unfinished operation for each target, whatever the code above believes.
CREATE UNIQUE INDEX operations_unfinished ON operations (instance, cluster) WHERE unfinished;

-- Those that have ended, by target. The unfinished ones are few, and have the index above.
CREATE INDEX operations_ended ON operations (instance, cluster) WHERE NOT unfinished;

-- How each run went. Earlier runs stay, so that their keys and numbers are never used again and
-- a late webhook still finds its operation. A run that GitLab began itself, by a retry there,
-- keeps key and number of the run before, since the pipelines are the same: hence unique together
-- with the run, and the code sees to it that no other operation has them. The target is repeated
-- for the index of durations.
CREATE TABLE runs (
    op               BIGINT  NOT NULL REFERENCES operations (nr),
    run              BIGINT  NOT NULL,
    action           TEXT    NOT NULL,
    cluster          TEXT    NOT NULL,
    instance         TEXT    NOT NULL,
    asked_platform   TEXT    NOT NULL,
    asked_workspace  TEXT    NOT NULL,
    asked_user       TEXT    NOT NULL,
    asked_name       TEXT    NOT NULL,
    key              TEXT    NOT NULL,
    number           BIGINT  NOT NULL,
    state            TEXT    NOT NULL,
    reason           TEXT    NOT NULL,
    detail           TEXT    NOT NULL,
    outstanding      BOOLEAN NOT NULL,
    attempt          BIGINT  NOT NULL,
    lost             BIGINT  NOT NULL,
    posted_at        BIGINT  NOT NULL,
    server_time      BIGINT  NOT NULL,
    cancel_platform  TEXT    NOT NULL,
    cancel_workspace TEXT    NOT NULL,
    cancel_user      TEXT    NOT NULL,
    cancel_at        BIGINT  NOT NULL,
    project          TEXT    NOT NULL,
    follow           TEXT    NOT NULL,
    follow_within    BIGINT  NOT NULL,
    failure          TEXT    NOT NULL,
    link             TEXT    NOT NULL,
    expected         BIGINT  NOT NULL,
    errors           BIGINT  NOT NULL,
    error_since      BIGINT  NOT NULL,
    run_at           BIGINT  NOT NULL,
    started_at       BIGINT  NOT NULL,
    finished_at      BIGINT  NOT NULL,
    PRIMARY KEY (op, run)
) WITHOUT ROWID;

CREATE UNIQUE INDEX runs_by_key ON runs (key, run);
CREATE UNIQUE INDEX runs_by_number ON runs (number, run);
CREATE INDEX runs_by_cluster ON runs (cluster, action, finished_at) WHERE state = 'succeeded';
CREATE INDEX runs_by_target ON runs (cluster, action, instance, finished_at) WHERE state = 'succeeded';

-- The pipelines of an operation as they were last seen; jobs is a summary for the card.
CREATE TABLE pipelines (
    op            BIGINT  NOT NULL REFERENCES operations (nr),
    project       TEXT    NOT NULL,
    pipeline_id   BIGINT  NOT NULL,
    run           BIGINT  NOT NULL,
    place         BIGINT  NOT NULL,
    role          TEXT    NOT NULL,
    parent        BIGINT  NOT NULL,
    bridge        TEXT    NOT NULL,
    allow_failure BOOLEAN NOT NULL,
    source        TEXT    NOT NULL,
    status        TEXT    NOT NULL,
    git_ref       TEXT    NOT NULL,
    sha           TEXT    NOT NULL,
    url           TEXT    NOT NULL,
    created_at    BIGINT  NOT NULL,
    updated_at    BIGINT  NOT NULL,
    started_at    BIGINT  NOT NULL,
    finished_at   BIGINT  NOT NULL,
    yaml_errors   TEXT    NOT NULL,
    jobs          TEXT    NOT NULL,
    PRIMARY KEY (op, project, pipeline_id)
) WITHOUT ROWID;

CREATE INDEX pipelines_by_id ON pipelines (pipeline_id, project);

-- What happened to each operation, written in the transaction of the change.
CREATE TABLE events (
    op              BIGINT NOT NULL REFERENCES operations (nr),
    seq             BIGINT NOT NULL,
    run             BIGINT NOT NULL,
    kind            TEXT   NOT NULL,
    from_state      TEXT   NOT NULL,
    to_state        TEXT   NOT NULL,
    reason          TEXT   NOT NULL,
    actor_platform  TEXT   NOT NULL,
    actor_workspace TEXT   NOT NULL,
    actor_user      TEXT   NOT NULL,
    at              BIGINT NOT NULL,
    PRIMARY KEY (op, seq)
) WITHOUT ROWID;

-- The messages that chat owes, in the order in which they are owed.
CREATE TABLE deliveries (
    op           BIGINT  NOT NULL REFERENCES operations (nr),
    run          BIGINT  NOT NULL,
    kind         TEXT    NOT NULL,
    seq          BIGINT  NOT NULL,
    to_platform  TEXT    NOT NULL,
    to_workspace TEXT    NOT NULL,
    to_channel   TEXT    NOT NULL,
    to_thread    TEXT    NOT NULL,
    key          TEXT    NOT NULL,
    ref          TEXT    NOT NULL,
    hash         TEXT    NOT NULL,
    posting_at   BIGINT  NOT NULL,
    sent_at      BIGINT  NOT NULL,
    done         BOOLEAN NOT NULL,
    attempts     BIGINT  NOT NULL,
    snapshot     TEXT    NOT NULL,
    version      BIGINT  NOT NULL,
    PRIMARY KEY (op, run, kind)
) WITHOUT ROWID;

CREATE INDEX deliveries_open ON deliveries (op) WHERE NOT done;

-- Keys of clicks and commands that must act once; kept for a day.
CREATE TABLE seen (
    key       TEXT   PRIMARY KEY,
    operation TEXT   NOT NULL,
    at        BIGINT NOT NULL
) WITHOUT ROWID;

CREATE INDEX seen_by_time ON seen (at);

-- Secrets that were given at run time, encrypted by the caller.
CREATE TABLE secrets (
    name       TEXT   PRIMARY KEY,
    ciphertext TEXT   NOT NULL,
    at         BIGINT NOT NULL
) WITHOUT ROWID;

-- Wake-ups: something is to be looked at. leased_until is 0 unless a worker has it; seq goes up
-- with every wish, so that a worker sees whether another one came while it worked.
CREATE TABLE wakeups (
    kind         TEXT   NOT NULL,
    id           TEXT   NOT NULL,
    due_at       BIGINT NOT NULL,
    seq          BIGINT NOT NULL,
    leased_until BIGINT NOT NULL,
    attempts     BIGINT NOT NULL,
    PRIMARY KEY (id, kind)
) WITHOUT ROWID;

CREATE INDEX wakeups_by_time ON wakeups (kind, (CASE WHEN leased_until > 0 THEN leased_until ELSE due_at END));
