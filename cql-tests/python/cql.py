"""The unmodified Python driver at work for a test: a JSON request a line on standard input, a JSON answer a line.

usage: cql.py HOST PORT
requests: {"do": "execute", "statement": ...}              -> {"ok": [{column: value, ...}, ...]}
          {"do": "fill", "table": "ks.t", "rows": N}       -> {"ok": rows written}; of the table that `everything` makes
          {"do": "everything", "table": "ks.t", "with": TEXT}
          {"do": "dump", "table": "ks.t"}                  -> {"ok": {"rows": [...], "expires": [...]}}
          {"do": "metadata", "keyspace": "ks"}             -> {"ok": [tables]}, as pushed schema changes made it
a refused statement: {"error": {"code": N, "message": TEXT}}
"""

import json
import random
import re
import sys
import time
import uuid
from collections import namedtuple
from datetime import date, datetime, timezone
from decimal import Decimal
from ipaddress import ip_address

from cassandra import util
from cassandra.cluster import Cluster
from cassandra.query import SimpleStatement, dict_factory, named_tuple_factory

HOST, PORT = sys.argv[1], int(sys.argv[2])
NATIVE = ("ascii", "bigint", "blob", "boolean", "date", "decimal", "double", "duration", "float", "inet", "int",
          "smallint", "text", "time", "timestamp", "timeuuid", "tinyint", "uuid", "varint")
SINGLE = [f"c_{name}" for name in NATIVE] + ["home", "home_frozen", "pair", "tags_frozen", "owner"]
STATIC = ("owner", "owners")
# What has parts of its own has no one time of writing.
MANY = ["tags", "scores", "notes", "owners"]
Address = namedtuple("Address", "street number more")


def plain(value):
    """Something JSON has, and the same for two values only when they are the same."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, datetime):
        return round(value.replace(tzinfo=timezone.utc).timestamp() * 1000)
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, (util.OrderedMapSerializedKey, dict)):
        return {str(plain(key)): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, util.SortedSet, set)) and not hasattr(value, "_fields"):
        return [plain(part) for part in value]
    return repr(value)


def everything(session, table, options):
    keyspace = table.split(".")[0]
    session.execute(f"CREATE TYPE IF NOT EXISTS {keyspace}.address (street text, number int, more frozen<map<text, text>>)")
    columns = ", ".join(f"c_{name} {name}" for name in NATIVE)
    session.execute(
        f"CREATE TABLE {table} (p int, q text, c timestamp, d int, {columns}, home frozen<address>, "
        "home_frozen frozen<address>, pair tuple<int, text>, tags_frozen frozen<set<text>>, tags set<text>, "
        "scores map<text, int>, notes list<text>, owner text STATIC, owners set<text> STATIC, "
        f"PRIMARY KEY ((p, q), c, d)) WITH CLUSTERING ORDER BY (c DESC, d ASC) {options}")


def value_of(kind, dice):
    return {
        "ascii": lambda: "a" * dice.randrange(40),
        "bigint": lambda: dice.randrange(-2**63, 2**63),
        "blob": lambda: dice.randbytes(dice.randrange(400)),
        "boolean": lambda: dice.random() < 0.5,
        "date": lambda: date(1970 + dice.randrange(200), 1 + dice.randrange(12), 1 + dice.randrange(28)),
        "decimal": lambda: Decimal(dice.randrange(-10**20, 10**20)).scaleb(-dice.randrange(30)),
        "double": lambda: dice.choice([dice.uniform(-1e300, 1e300), -0.0, float("inf"), float("nan")]),
        "duration": lambda: util.Duration(dice.randrange(100), dice.randrange(100), dice.randrange(10**15)),
        "float": lambda: float(dice.randrange(-2**20, 2**20)) / 8,
        "inet": lambda: str(ip_address(dice.randbytes(dice.choice([4, 16])))),
        "int": lambda: dice.randrange(-2**31, 2**31),
        "smallint": lambda: dice.randrange(-2**15, 2**15),
        "text": lambda: "täßt " * dice.randrange(30),
        "time": lambda: util.Time(dice.randrange(86400 * 10**9)),
        "timestamp": lambda: datetime.fromtimestamp(dice.randrange(4 * 10**12) / 1000, timezone.utc),
        "timeuuid": lambda: uuid.uuid1(dice.randrange(2**48), dice.randrange(2**14)),
        "tinyint": lambda: dice.randrange(-2**7, 2**7),
        "uuid": lambda: uuid.UUID(int=dice.getrandbits(128)),
        "varint": lambda: dice.getrandbits(300) - 2**299,
    }[kind]()


def fill(cluster, session, table, count):
    """Rows of every kind: whole ones, some with a time to live, some of a few columns, deleted cells, rows and ranges."""
    dice = random.Random(5)
    cluster.register_user_type(table.split(".")[0], "address", Address)
    words = lambda: {f"w{dice.randrange(9)}" for _ in range(dice.randrange(5))}
    home = lambda: Address(f"street {dice.randrange(99)}", dice.choice([None, dice.randrange(999)]), {"k": "v"})
    columns = ["p", "q", "c", "d", *SINGLE, *MANY]
    whole = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' for _ in columns)})"
    whole, mortal = session.prepare(whole), session.prepare(whole + " USING TTL 400000000 AND TIMESTAMP 1600000000000000")
    key = "WHERE p = ? AND q = ? AND c = ? AND d = ?"
    some = session.prepare(f"UPDATE {table} SET notes = notes + ?, scores['more'] = ?, c_text = ? {key}")
    cells = session.prepare(f"DELETE c_int, tags, scores['a'] FROM {table} {key}")
    row = session.prepare(f"DELETE FROM {table} {key}")
    span = session.prepare(f"DELETE FROM {table} WHERE p = ? AND q = ? AND c > ?")
    statics = session.prepare(f"INSERT INTO {table} (p, q, owner, owners) VALUES (?, ?, ?, ?)")
    places = []
    for number in range(count):
        place = (number % 17, f"q{number % 3}", datetime.fromtimestamp(1_700_000_000 + number % 29, timezone.utc), number)
        places.append(place)
        values = [None if dice.random() < 0.1 else value_of(kind, dice) for kind in NATIVE]
        values += [home(), home(), (dice.randrange(99), "two"), words() or {"one"}, f"owner {number}"]
        values += [words(), {"a": number, "b": dice.randrange(9)}, [f"n{part}" for part in range(number % 4)], words()]
        session.execute(mortal if number % 7 == 0 else whole, (*place, *values))
    for place in places:
        luck = dice.randrange(10)
        if luck == 0:
            session.execute(some, (["added"], 7, "changed", *place))
        elif luck == 1:
            session.execute(cells, place)
        elif luck == 2:
            session.execute(row, place)
    session.execute(span, (3, "q0", datetime.fromtimestamp(1_700_000_015, timezone.utc)))
    session.execute(statics, (1000, "only static", "nobody", {"x"}))
    return count


def dump(cluster, session, table):
    """Every cell with its time of writing; when cells expire stands apart, since that is told in seconds from now."""
    cluster.register_user_type(table.split(".")[0], "address", Address)
    times = [f"WRITETIME({name})" for name in SINGLE]
    lives = [f"TTL({name})" for name in SINGLE]
    session.row_factory = named_tuple_factory
    columns = ["p", "q", "c", "d", *SINGLE, *MANY]
    statement = SimpleStatement(f"SELECT {', '.join(columns + times + lives)} FROM {table}", fetch_size=37)
    now = time.time()
    rows, expires = [], []
    for row in session.execute(statement):
        values = [repr(value) for value in row]
        rows.append(values[:len(columns) + len(times)])
        expires.append([None if left is None else round(now + left) for left in row[len(columns) + len(times):]])
    session.row_factory = dict_factory
    return {"rows": rows, "expires": expires}


def main():
    cluster = Cluster([HOST], port=PORT, schema_event_refresh_window=0, protocol_version=4)
    session = cluster.connect()
    session.default_timeout = 60
    session.row_factory = dict_factory

    def answer(request):
        match request["do"]:
            case "execute":
                result = session.execute(request["statement"])
                return [{name: plain(value) for name, value in row.items()} for row in result]
            case "everything":
                return everything(session, request["table"], request["with"])
            case "fill":
                return fill(cluster, session, request["table"], request["rows"])
            case "dump":
                return dump(cluster, session, request["table"])
            case "metadata":
                keyspace = cluster.metadata.keyspaces.get(request["keyspace"])
                return sorted(keyspace.tables) if keyspace else []

    for line in sys.stdin:
        try:
            reply = {"ok": answer(json.loads(line))}
        except Exception as error:  # the driver has an exception of its own for each code, with the code in its text
            code = re.search("code=([0-9a-fA-F]{4})", str(error))
            reply = {"error": {"code": int(code[1], 16) if code else 0, "message": f"{type(error).__name__}: {error}"}}
        print(json.dumps(reply), flush=True)


main()
