"""One line of migrations for SQLite and PostgreSQL."""
