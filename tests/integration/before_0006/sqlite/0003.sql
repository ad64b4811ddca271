ALTER TABLE connection ADD COLUMN expiry_told DATE;

ALTER TABLE outbox ADD COLUMN give_up_at DATETIME;

ALTER TABLE outbox ADD COLUMN dropped_at DATETIME;

ALTER TABLE outbox ADD COLUMN hook_due_at DATETIME;

ALTER TABLE outbox ADD COLUMN hook_attempts INTEGER DEFAULT '0' NOT NULL;

ALTER TABLE outbox ADD COLUMN hook_last_error TEXT;

ALTER TABLE outbox ADD COLUMN hook_delivered_at DATETIME;

ALTER TABLE outbox ADD COLUMN hook_dead_at DATETIME;

ALTER TABLE outbox ADD COLUMN hook_lease_holder TEXT;

ALTER TABLE outbox ADD COLUMN hook_lease_until DATETIME;

ALTER TABLE outbox ADD COLUMN hook_give_up_at DATETIME;

ALTER TABLE outbox ADD COLUMN hook_dropped_at DATETIME;

CREATE INDEX outbox_hook_due ON outbox (hook_due_at) WHERE hook_due_at IS NOT NULL;

UPDATE alembic_version SET version_num='0003';
