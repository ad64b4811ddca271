DROP INDEX step_at;

ALTER TABLE step ADD COLUMN pruned_at DATETIME;

CREATE INDEX connection_troubled ON connection (created_at, id) WHERE closed_at IS NULL AND (state = 'failed' OR problem_code IS NOT NULL OR replacement_problem_code IS NOT NULL OR paused_at IS NOT NULL);

CREATE INDEX connection_closed ON connection (closed_at) WHERE closed_at IS NOT NULL;

CREATE INDEX step_continues ON step (at) WHERE seq > 1 AND pruned_at IS NULL;

CREATE INDEX outbox_over ON outbox (created_at) WHERE due_at IS NULL AND hook_due_at IS NULL;

UPDATE alembic_version SET version_num='0004';
