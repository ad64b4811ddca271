DROP INDEX outbox_hook_due;

CREATE INDEX outbox_hook_due ON outbox (hook_due_at, id) WHERE hook_due_at IS NOT NULL;

UPDATE alembic_version SET version_num='0005';
