"""Tables and queries: accounts, keys, sessions, uploads, one-time links, signing keys. The only room that knows SQL.

It keeps to SQL that SQLite and PostgreSQL share. Times are integers, microseconds since 1970 UTC. It must not know
HTTP, the wire's shapes or render servers; it does not read the clock.
"""
