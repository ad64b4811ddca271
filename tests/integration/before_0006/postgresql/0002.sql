CREATE TABLE ration (
    name TEXT NOT NULL,
    spread_until FLOAT NOT NULL,
    PRIMARY KEY (name)
);

CREATE INDEX connection_subdomain ON connection (subdomain) WHERE subdomain IS NOT NULL AND closed_at IS NULL;

UPDATE alembic_version SET version_num='0002';
