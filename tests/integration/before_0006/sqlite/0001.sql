CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

CREATE TABLE connection (
    id TEXT NOT NULL,
    owner TEXT NOT NULL,
    metadata JSON NOT NULL,
    state TEXT NOT NULL,
    state_since DATETIME NOT NULL,
    subdomain TEXT,
    account_id TEXT,
    account_name TEXT,
    account_subdomain TEXT,
    recruiter_name TEXT,
    recruiter_email TEXT,
    recruiter_id TEXT,
    token_subdomain TEXT,
    token_sealed TEXT,
    token_key_id TEXT,
    token_fingerprint TEXT,
    token_expires_on DATE,
    candidate_subdomain TEXT,
    candidate_sealed TEXT,
    candidate_key_id TEXT,
    candidate_fingerprint TEXT,
    candidate_expires_on DATE,
    problem_code TEXT,
    problem_since DATETIME,
    problem_detail TEXT,
    replacement_problem_code TEXT,
    replacement_problem_since DATETIME,
    replacement_problem_detail TEXT,
    doubt_code TEXT,
    doubt_count INTEGER,
    doubt_since DATETIME,
    attempts INTEGER NOT NULL,
    checks INTEGER NOT NULL,
    due_at DATETIME,
    not_before DATETIME,
    deadline DATETIME,
    linked_at DATETIME,
    last_ok_at DATETIME,
    paused_at DATETIME,
    closed_at DATETIME,
    created_at DATETIME NOT NULL,
    updated_at DATETIME NOT NULL,
    version INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    lease_holder TEXT,
    lease_until DATETIME,
    law TEXT NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT doubt_code_known CHECK (doubt_code IN ('token_refused', 'subdomain_mismatch', 'scope_missing', 'account_taken', 'recruiter_absent', 'recruiter_overdue', 'token_revoked', 'token_expired', 'scope_lost', 'recruiter_removed', 'workable_unavailable', 'throttled', 'answer_not_understood', 'abandoned', 'poisoned')),
    CONSTRAINT problem_code_known CHECK (problem_code IN ('token_refused', 'subdomain_mismatch', 'scope_missing', 'account_taken', 'recruiter_absent', 'recruiter_overdue', 'token_revoked', 'token_expired', 'scope_lost', 'recruiter_removed', 'workable_unavailable', 'throttled', 'answer_not_understood', 'abandoned', 'poisoned')),
    CONSTRAINT replacement_problem_code_known CHECK (replacement_problem_code IN ('token_refused', 'subdomain_mismatch', 'scope_missing', 'account_taken', 'recruiter_absent', 'recruiter_overdue', 'token_revoked', 'token_expired', 'scope_lost', 'recruiter_removed', 'workable_unavailable', 'throttled', 'answer_not_understood', 'abandoned', 'poisoned')),
    CONSTRAINT state_known CHECK (state IN ('awaiting_token', 'token_valid', 'awaiting_recruiter', 'linked', 'failed'))
);

CREATE UNIQUE INDEX connection_account_once ON connection (owner, account_id) WHERE account_id IS NOT NULL AND closed_at IS NULL;

CREATE INDEX connection_candidate_key ON connection (candidate_key_id);

CREATE INDEX connection_due ON connection (due_at) WHERE due_at IS NOT NULL;

CREATE INDEX connection_owner ON connection (owner, created_at);

CREATE UNIQUE INDEX connection_recruiter_once ON connection (recruiter_email);

CREATE INDEX connection_state ON connection (state, created_at);

CREATE INDEX connection_token_key ON connection (token_key_id);

CREATE TABLE link (
    id INTEGER NOT NULL,
    connection_id TEXT NOT NULL,
    token_hash TEXT NOT NULL,
    scope TEXT NOT NULL,
    created_at DATETIME NOT NULL,
    expires_at DATETIME NOT NULL,
    revoked_at DATETIME,
    attempts INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY(connection_id) REFERENCES connection (id) ON DELETE CASCADE,
    UNIQUE (token_hash)
);

CREATE INDEX link_connection ON link (connection_id);

CREATE TABLE outbox (
    id INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    connection_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    type TEXT NOT NULL,
    payload JSON NOT NULL,
    created_at DATETIME NOT NULL,
    due_at DATETIME,
    attempts INTEGER NOT NULL,
    delivered_to JSON NOT NULL,
    last_error TEXT,
    delivered_at DATETIME,
    dead_at DATETIME,
    lease_holder TEXT,
    lease_until DATETIME,
    PRIMARY KEY (id),
    FOREIGN KEY(connection_id) REFERENCES connection (id) ON DELETE CASCADE,
    UNIQUE (message_id)
);

CREATE INDEX outbox_due ON outbox (type, due_at) WHERE due_at IS NOT NULL;

CREATE INDEX outbox_order ON outbox (connection_id, id);

CREATE TABLE step (
    connection_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    event TEXT NOT NULL,
    source TEXT,
    target TEXT NOT NULL,
    at DATETIME NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT,
    problem TEXT,
    evidence JSON NOT NULL,
    PRIMARY KEY (connection_id, seq),
    CONSTRAINT problem_known CHECK (problem IN ('token_refused', 'subdomain_mismatch', 'scope_missing', 'account_taken', 'recruiter_absent', 'recruiter_overdue', 'token_revoked', 'token_expired', 'scope_lost', 'recruiter_removed', 'workable_unavailable', 'throttled', 'answer_not_understood', 'abandoned', 'poisoned')),
    CONSTRAINT source_known CHECK (source IN ('awaiting_token', 'token_valid', 'awaiting_recruiter', 'linked', 'failed')),
    CONSTRAINT target_known CHECK (target IN ('awaiting_token', 'token_valid', 'awaiting_recruiter', 'linked', 'failed')),
    FOREIGN KEY(connection_id) REFERENCES connection (id) ON DELETE CASCADE
);

CREATE INDEX step_at ON step (at);

INSERT INTO alembic_version (version_num) VALUES ('0001');
