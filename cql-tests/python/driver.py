"""The Python driver does an application's work on encrypted tables.

usage: driver.py HOST PORT KMS_KEY_ARN [FILE_OF_AUTHORITY]
With the file the connection is TLS.
Exits with 0 when everything held, else with a traceback.
"""

import ssl
import sys
import uuid
from collections import namedtuple
from datetime import datetime
from decimal import Decimal

import cassandra
from cassandra import AlreadyExists, InvalidRequest
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.policies import DCAwareRoundRobinPolicy, TokenAwarePolicy
from cassandra.protocol import SyntaxException
from cassandra.query import BatchStatement, SimpleStatement, UNSET_VALUE

HOST, PORT, ARN = sys.argv[1], int(sys.argv[2]), sys.argv[3]
AUTHORITY = sys.argv[4] if len(sys.argv) > 4 else None


def connect(**options):
    profile = ExecutionProfile(load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy()))
    if AUTHORITY:
        options["ssl_context"] = ssl.create_default_context(cafile=AUTHORITY)
        options["ssl_options"] = {"server_hostname": HOST}
    cluster = Cluster([HOST], port=PORT, execution_profiles={EXEC_PROFILE_DEFAULT: profile}, **options)
    return cluster, cluster.connect()


def raises(kind, action):
    try:
        action()
    except kind as error:
        return str(error)
    raise AssertionError(f"{kind.__name__} was wanted")


def schema(cluster, session):
    session.execute("CREATE KEYSPACE app WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
    session.set_keyspace("app")
    session.execute("CREATE TYPE address (street text, number int)")
    session.execute(f"""
        CREATE TABLE people (id uuid, at timestamp, name text, home frozen<address>, tags set<text>,
            scores map<text, int>, notes list<text>, balance decimal, place text STATIC, PRIMARY KEY (id, at))
        WITH CLUSTERING ORDER BY (at DESC) AND comment = 'people'
        AND CUSTOM_PROPERTIES = {{'encryption_specification': {{
            'encryption_type': 'CUSTOMER_MANAGED_KMS_KEY', 'kms_key_identifier': '{ARN}'}}}}""")
    table = cluster.metadata.keyspaces["app"].tables["people"]
    assert [column.name for column in table.partition_key] == ["id"], table.partition_key
    assert [column.name for column in table.clustering_key] == ["at"], table.clustering_key
    assert table.columns["at"].is_reversed and table.columns["place"].is_static
    assert table.columns["scores"].cql_type == "map<text, int>", table.columns["scores"].cql_type
    assert table.options["comment"] == "people"
    assert "CREATE TABLE app.people" in table.export_as_string()
    assert cluster.metadata.token_map is not None
    raises(AlreadyExists, lambda: session.execute("CREATE TABLE people (id uuid PRIMARY KEY)"))
    raises(SyntaxException, lambda: session.execute("SELEC * FROM people"))
    raises(InvalidRequest, lambda: session.execute("SELECT nope FROM people"))


def rows(cluster, session):
    Address = namedtuple("Address", "street number")
    cluster.register_user_type("app", "address", Address)
    insert = session.prepare("""INSERT INTO people (id, at, name, home, tags, scores, notes, balance, place)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)""")
    assert [insert.column_metadata[i].name for i in insert.routing_key_indexes] == ["id"]
    person, at = uuid.uuid4(), datetime(2026, 11, 22, 8, 12, 54, 123000)
    session.execute(insert, (person, at, "Ann", Address("Elm", 5), {"x", "y"}, {"a": 1}, ["n", "m"], Decimal("12.50"), "here"))
    row = session.execute("SELECT * FROM people WHERE id = %s", (person,)).one()
    assert row.name == "Ann" and row.home == Address("Elm", 5) and row.at == at, row
    assert set(row.tags) == {"x", "y"} and dict(row.scores) == {"a": 1} and row.notes == ["n", "m"], row
    assert row.balance == Decimal("12.50") and row.place == "here", row
    session.execute(insert, (person, at, UNSET_VALUE, None, UNSET_VALUE, UNSET_VALUE, UNSET_VALUE, UNSET_VALUE, UNSET_VALUE))
    row = session.execute("SELECT name, home FROM people WHERE id = %s", (person,)).one()
    assert row.name == "Ann" and row.home is None, "unset leaves a value, null deletes it"
    named = session.prepare("UPDATE people SET name = :name WHERE id = :id AND at = :at")
    session.execute(named, {"id": person, "at": at, "name": "Bea"})
    assert session.execute("SELECT name FROM people WHERE id = %s", (person,)).one().name == "Bea"


def pages(session):
    session.execute("CREATE TABLE series (dev int, t int, v text, PRIMARY KEY (dev, t))")
    insert = session.prepare("INSERT INTO series (dev, t, v) VALUES (?, ?, ?)")
    futures = [session.execute_async(insert, (i % 7, i, f"value {i}")) for i in range(5000)]
    for future in futures:
        future.result()
    seen = [row.t for row in session.execute(SimpleStatement("SELECT t FROM series", fetch_size=123))]
    assert sorted(seen) == list(range(5000)), f"{len(seen)} rows"
    result = session.execute(SimpleStatement("SELECT t FROM series WHERE dev = 3", fetch_size=50))
    state, first = result.paging_state, [row.t for row in result.current_rows]
    again = session.execute(SimpleStatement("SELECT t FROM series WHERE dev = 3", fetch_size=50), paging_state=state)
    assert first[-1] < again.current_rows[0].t and len(first) == 50
    assert session.execute("SELECT count(*) FROM series").one()[0] == 5000


def batches(session):
    session.execute("CREATE TABLE pairs (a int PRIMARY KEY, b int)")
    batch = BatchStatement()
    prepared = session.prepare("INSERT INTO pairs (a, b) VALUES (?, ?)")
    for i in range(20):
        batch.add(prepared, (i, i * i))
    batch.add(SimpleStatement("INSERT INTO pairs (a, b) VALUES (100, %s)"), (5,))
    session.execute(batch)
    assert session.execute("SELECT count(*) FROM pairs").one()[0] == 21


def other_ways(session):
    assert session.execute("SELECT release_version FROM system.local").one()[0].startswith("4.1")
    trace = session.execute("SELECT * FROM pairs", trace=True).get_query_trace()
    assert trace.duration is not None
    for compression in (False, "lz4", "snappy"):
        cluster, compressed = connect(compression=compression)
        big = "x" * 100_000
        compressed.execute("INSERT INTO app.series (dev, t, v) VALUES (100, 1, %s)", (big,))
        row = compressed.execute("SELECT v FROM app.series WHERE dev = 100").one()
        assert row.v == big, compression
        cluster.shutdown()
    described = session.execute("DESCRIBE TABLE app.people").one()
    assert "CUSTOM_PROPERTIES" in described.create_statement, described


def main():
    cluster, session = connect()
    schema(cluster, session)
    rows(cluster, session)
    pages(session)
    batches(session)
    other_ways(session)
    session.execute("DROP KEYSPACE app")
    assert "app" not in cluster.metadata.keyspaces
    cluster.shutdown()
    print("the Python driver", cassandra.__version__, "found everything as it should be")


main()
