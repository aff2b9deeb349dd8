import com.datastax.oss.driver.api.core.CqlSession;
import com.datastax.oss.driver.api.core.cql.BatchStatement;
import com.datastax.oss.driver.api.core.cql.DefaultBatchType;
import com.datastax.oss.driver.api.core.cql.SimpleStatement;
import com.datastax.oss.driver.api.core.servererrors.InvalidQueryException;
import java.net.InetSocketAddress;
import java.util.Map;

/** The Java driver 4 does an application's work. Arguments: HOST PORT. */
public final class Clients {
    public static void main(String[] arguments) {
        InetSocketAddress address = new InetSocketAddress(arguments[0], Integer.parseInt(arguments[1]));
        try (CqlSession session =
                CqlSession.builder().addContactPoint(address).withLocalDatacenter("datacenter1").build()) {
            session.execute("CREATE KEYSPACE IF NOT EXISTS java_app WITH replication = "
                + "{'class': 'SimpleStrategy', 'replication_factor': 1}");
            session.execute("CREATE TABLE java_app.t (k int, c int, v text, m map<text, int>, PRIMARY KEY (k, c))");
            var insert = session.prepare("INSERT INTO java_app.t (k, c, v, m) VALUES (?, ?, ?, ?)");
            for (int i = 0; i < 500; i++) {
                session.execute(insert.bind(i % 3, i, "row " + i, Map.of("a", i)));
            }
            int rows = 0;
            for (var row : session.execute(SimpleStatement.newInstance("SELECT * FROM java_app.t").setPageSize(60))) {
                check(row.getString("v").equals("row " + row.getInt("c")), "a wrong row");
                check(row.getMap("m", String.class, Integer.class).get("a") == row.getInt("c"), "a wrong map");
                rows++;
            }
            check(rows == 500, "rows: " + rows);
            session.execute(BatchStatement.newInstance(DefaultBatchType.LOGGED)
                .add(insert.bind(9, 1, "x", Map.of()))
                .add(insert.bind(9, 2, "y", Map.of())));
            check(session.execute("SELECT * FROM java_app.t WHERE k = 9").all().size() == 2, "the batch");
            try {
                session.execute("SELECT nope FROM java_app.t");
                check(false, "an error was wanted");
            } catch (InvalidQueryException expected) {
                check(expected.getMessage().contains("nope"), expected.getMessage());
            }
            var table = session.refreshSchema().getKeyspace("java_app").orElseThrow().getTable("t").orElseThrow();
            check(table.getClusteringColumns().size() == 1, "metadata");
            session.execute("DROP KEYSPACE java_app");
        }
        System.out.println("the Java driver found everything as it should be");
    }

    private static void check(boolean holds, String text) {
        if (!holds) {
            throw new IllegalStateException(text);
        }
    }
}
