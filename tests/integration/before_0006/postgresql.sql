CREATE TABLE connection (
    id TEXT NOT NULL, 
    owner TEXT NOT NULL, 
    metadata JSON NOT NULL, 
    state TEXT NOT NULL, 
    state_since TIMESTAMP WITH TIME ZONE NOT NULL, 
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
    problem_since TIMESTAMP WITH TIME ZONE, 
    problem_detail TEXT, 
    replacement_problem_code TEXT, 
    replacement_problem_since TIMESTAMP WITH TIME ZONE, 
    replacement_problem_detail TEXT, 
    doubt_code TEXT, 
    doubt_count INTEGER, 
    doubt_since TIMESTAMP WITH TIME ZONE, 
    attempts INTEGER NOT NULL, 
    checks INTEGER NOT NULL, 
    due_at TIMESTAMP WITH TIME ZONE, 
    not_before TIMESTAMP WITH TIME ZONE, 
    deadline TIMESTAMP WITH TIME ZONE, 
    linked_at TIMESTAMP WITH TIME ZONE, 
    last_ok_at TIMESTAMP WITH TIME ZONE, 
    paused_at TIMESTAMP WITH TIME ZONE, 
    closed_at TIMESTAMP WITH TIME ZONE, 
    created_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    version INTEGER NOT NULL, 
    last_seq INTEGER NOT NULL, 
    lease_holder TEXT, 
    lease_until TIMESTAMP WITH TIME ZONE, 
    law TEXT NOT NULL, 
    expiry_told DATE, 
    PRIMARY KEY (id), 
    CONSTRAINT state_known CHECK (state IN ('awaiting_token', 'token_valid', 'awaiting_recruiter', 'linked', 'failed')), 
    CONSTRAINT problem_code_known CHECK (problem_code IN ('token_refused', 'subdomain_mismatch', 'scope_missing', 'account_taken', 'recruiter_absent', 'recruiter_overdue', 'token_revoked', 'token_expired', 'scope_lost', 'recruiter_removed', 'workable_unavailable', 'throttled', 'answer_not_understood', 'abandoned', 'poisoned')), 
    CONSTRAINT replacement_problem_code_known CHECK (replacement_problem_code IN ('token_refused', 'subdomain_mismatch', 'scope_missing', 'account_taken', 'recruiter_absent', 'recruiter_overdue', 'token_revoked', 'token_expired', 'scope_lost', 'recruiter_removed', 'workable_unavailable', 'throttled', 'answer_not_understood', 'abandoned', 'poisoned')), 
    CONSTRAINT doubt_code_known CHECK (doubt_code IN ('token_refused', 'subdomain_mismatch', 'scope_missing', 'account_taken', 'recruiter_absent', 'recruiter_overdue', 'token_revoked', 'token_expired', 'scope_lost', 'recruiter_removed', 'workable_unavailable', 'throttled', 'answer_not_understood', 'abandoned', 'poisoned'))
);

CREATE UNIQUE INDEX connection_account_once ON connection (owner, account_id) WHERE account_id IS NOT NULL AND closed_at IS NULL;

CREATE INDEX connection_candidate_key ON connection (candidate_key_id);

CREATE INDEX connection_closed ON connection (closed_at) WHERE closed_at IS NOT NULL;

CREATE INDEX connection_due ON connection (due_at) WHERE due_at IS NOT NULL;

CREATE INDEX connection_owner ON connection (owner, created_at);

CREATE UNIQUE INDEX connection_recruiter_once ON connection (recruiter_email);

CREATE INDEX connection_state ON connection (state, created_at);

CREATE INDEX connection_subdomain ON connection (subdomain) WHERE subdomain IS NOT NULL AND closed_at IS NULL;

CREATE INDEX connection_token_key ON connection (token_key_id);

CREATE INDEX connection_troubled ON connection (created_at, id) WHERE closed_at IS NULL AND (state = 'failed' OR problem_code IS NOT NULL OR replacement_problem_code IS NOT NULL OR paused_at IS NOT NULL);

CREATE TABLE ration (
    name TEXT NOT NULL, 
    spread_until FLOAT NOT NULL, 
    PRIMARY KEY (name)
);

CREATE TABLE link (
    id BIGSERIAL NOT NULL, 
    connection_id TEXT NOT NULL, 
    token_hash TEXT NOT NULL, 
    scope TEXT NOT NULL, 
    created_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    revoked_at TIMESTAMP WITH TIME ZONE, 
    attempts INTEGER NOT NULL, 
    PRIMARY KEY (id), 
    FOREIGN KEY(connection_id) REFERENCES connection (id) ON DELETE CASCADE, 
    UNIQUE (token_hash)
);

CREATE INDEX link_connection ON link (connection_id);

CREATE TABLE outbox (
    id BIGSERIAL NOT NULL, 
    message_id TEXT NOT NULL, 
    connection_id TEXT NOT NULL, 
    seq INTEGER NOT NULL, 
    type TEXT NOT NULL, 
    payload JSON NOT NULL, 
    created_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    due_at TIMESTAMP WITH TIME ZONE, 
    attempts INTEGER NOT NULL, 
    delivered_to JSON NOT NULL, 
    last_error TEXT, 
    delivered_at TIMESTAMP WITH TIME ZONE, 
    dead_at TIMESTAMP WITH TIME ZONE, 
    lease_holder TEXT, 
    lease_until TIMESTAMP WITH TIME ZONE, 
    give_up_at TIMESTAMP WITH TIME ZONE, 
    dropped_at TIMESTAMP WITH TIME ZONE, 
    hook_due_at TIMESTAMP WITH TIME ZONE, 
    hook_attempts INTEGER DEFAULT '0' NOT NULL, 
    hook_last_error TEXT, 
    hook_delivered_at TIMESTAMP WITH TIME ZONE, 
    hook_dead_at TIMESTAMP WITH TIME ZONE, 
    hook_lease_holder TEXT, 
    hook_lease_until TIMESTAMP WITH TIME ZONE, 
    hook_give_up_at TIMESTAMP WITH TIME ZONE, 
    hook_dropped_at TIMESTAMP WITH TIME ZONE, 
    PRIMARY KEY (id), 
    UNIQUE (message_id), 
    FOREIGN KEY(connection_id) REFERENCES connection (id) ON DELETE CASCADE
);

CREATE INDEX outbox_due ON outbox (type, due_at) WHERE due_at IS NOT NULL;

CREATE INDEX outbox_hook_due ON outbox (hook_due_at, id) WHERE hook_due_at IS NOT NULL;

CREATE INDEX outbox_order ON outbox (connection_id, id);

CREATE INDEX outbox_over ON outbox (created_at) WHERE due_at IS NULL AND hook_due_at IS NULL;

CREATE TABLE step (
    connection_id TEXT NOT NULL, 
    seq INTEGER NOT NULL, 
    event TEXT NOT NULL, 
    source TEXT, 
    target TEXT NOT NULL, 
    at TIMESTAMP WITH TIME ZONE NOT NULL, 
    actor TEXT NOT NULL, 
    reason TEXT, 
    problem TEXT, 
    evidence JSON NOT NULL, 
    pruned_at TIMESTAMP WITH TIME ZONE, 
    PRIMARY KEY (connection_id, seq), 
    CONSTRAINT source_known CHECK (source IN ('awaiting_token', 'token_valid', 'awaiting_recruiter', 'linked', 'failed')), 
    CONSTRAINT target_known CHECK (target IN ('awaiting_token', 'token_valid', 'awaiting_recruiter', 'linked', 'failed')), 
    CONSTRAINT problem_known CHECK (problem IN ('token_refused', 'subdomain_mismatch', 'scope_missing', 'account_taken', 'recruiter_absent', 'recruiter_overdue', 'token_revoked', 'token_expired', 'scope_lost', 'recruiter_removed', 'workable_unavailable', 'throttled', 'answer_not_understood', 'abandoned', 'poisoned')), 
    FOREIGN KEY(connection_id) REFERENCES connection (id) ON DELETE CASCADE
);

CREATE INDEX step_continues ON step (at) WHERE seq > 1 AND pruned_at IS NULL;

CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num));

INSERT INTO alembic_version (version_num) VALUES ('0005');

