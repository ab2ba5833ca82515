// A session of PostgreSQL's JDBC driver. Prints what it sees; run directly and through TenantGate it must print the same.

import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.time.LocalDate;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import java.util.TreeSet;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;
import org.postgresql.util.PGobject;

public class Session {
    static final String TENANT = System.getenv("TENANT");
    static final String[] TENANTS = {"a", "b", "c"};

    interface Action {
        void run() throws Exception;
    }

    static void show(String title, Object value) {
        System.out.println(title + ": " + (value instanceof Object[] ? Arrays.deepToString((Object[]) value) : value));
    }

    static String errorOf(Action action) throws Exception {
        try {
            action.run();
            return "no error";
        } catch (SQLException error) {
            return error.getClass().getSimpleName() + " " + error.getSQLState() + " " + error.getMessage().split("\n")[0];
        }
    }

    static Connection connect(String tenant, String... more) throws SQLException {
        String user = System.getenv("PGUSER");
        Properties properties = new Properties();
        if (tenant != null) user = user.split("\\.")[0];
        properties.setProperty("user", user);
        properties.setProperty("password", System.getenv("PGPASSWORD"));
        if (!user.contains(".")) properties.setProperty("options", "-c app.tenant_id=" + (tenant == null ? TENANT : tenant));
        for (int at = 0; at < more.length; at += 2) properties.setProperty(more[at], more[at + 1]);
        return DriverManager.getConnection(
            "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE"), properties);
    }

    static List<List<Object>> rows(ResultSet result) throws SQLException {
        List<List<Object>> rows = new ArrayList<>();
        int columns = result.getMetaData().getColumnCount();
        while (result.next()) {
            List<Object> row = new ArrayList<>();
            for (int at = 1; at <= columns; at++) row.add(result.getObject(at));
            rows.add(row);
        }
        return rows;
    }

    static List<List<Object>> query(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement(); ResultSet result = statement.executeQuery(sql)) {
            return rows(result);
        }
    }

    static void statements(Connection connection) throws Exception {
        show("rows", query(connection, "SELECT id, name, tenant_id FROM items ORDER BY id"));
        try (PreparedStatement statement = connection.prepareStatement("SELECT id FROM items WHERE id > ? AND name <> ? ORDER BY id")) {
            statement.setInt(1, 1);
            statement.setString(2, "x");
            show("parameters", rows(statement.executeQuery()));
            show("parameter types", statement.getParameterMetaData().getParameterTypeName(1));
            ResultSetMetaData about = statement.getMetaData();
            show("columns", about.getColumnName(1) + " " + about.getColumnTypeName(1) + " " + about.isNullable(1));
        }
        try (Statement statement = connection.createStatement()) {
            show("several", statement.execute("SELECT 1; UPDATE items SET qty = qty; SELECT 2"));
            show("more", statement.getMoreResults() + " " + statement.getUpdateCount() + " " + statement.getMoreResults());
        }
        show("error", errorOf(() -> query(connection, "SELECT nosuch FROM items")));
        show("unique", errorOf(() -> query(connection, "INSERT INTO items (id, name) VALUES (1, 'again') RETURNING id")));
        try (PreparedStatement statement = connection.prepareStatement("INSERT INTO orders (item, note) VALUES (?, ?)", Statement.RETURN_GENERATED_KEYS)) {
            for (int number = 1; number <= 3; number++) {
                statement.setInt(1, number);
                statement.setString(2, "note " + number);
                statement.addBatch();
            }
            show("batch", Arrays.toString(statement.executeBatch()));
            show("keys", rows(statement.getGeneratedKeys()).size());
        }
        query(connection, "DELETE FROM orders RETURNING 1");
        show("escape", query(connection, "SELECT {fn concat('a', 'b')}, {d '2026-01-02'}"));
    }

    static void transactions(Connection connection) throws Exception {
        connection.setAutoCommit(false);
        try (Statement statement = connection.createStatement()) {
            statement.executeUpdate("DELETE FROM items WHERE id = 70");
            statement.executeUpdate("INSERT INTO items (id, name) VALUES (70, 'kept')");
            Savepoint savepoint = connection.setSavepoint("one");
            show("inner", errorOf(() -> statement.executeQuery("SELECT 1/0")));
            show("failed", errorOf(() -> statement.executeQuery("SELECT 1")));
            connection.rollback(savepoint);
            connection.commit();
            statement.executeUpdate("DELETE FROM items");
            connection.rollback();
            statement.setFetchSize(2);
            try (ResultSet result = statement.executeQuery("SELECT id FROM items ORDER BY id")) {
                show("fetched", rows(result));
            }
            connection.commit();
        }
        connection.setAutoCommit(true);
        connection.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
        connection.setReadOnly(true);
        connection.setAutoCommit(false);
        show("isolation", query(connection, "SHOW transaction_isolation"));
        show("read only", errorOf(() -> query(connection, "DELETE FROM items RETURNING 1")));
        connection.rollback();
        connection.setReadOnly(false);
        connection.setAutoCommit(true);
        connection.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
        show("after", query(connection, "SELECT id FROM items ORDER BY id"));
    }

    /** Beyond prepareThreshold (5), and beyond what the driver and one server keep. */
    static void prepared(Connection connection) throws Exception {
        try (PreparedStatement statement = connection.prepareStatement("SELECT name FROM items WHERE id = ?")) {
            List<Object> names = new ArrayList<>();
            for (int number = 0; number < 12; number++) {
                statement.setInt(1, 1 + number % 3);
                names.addAll(rows(statement.executeQuery()));
            }
            show("prepared", names);
            show("on the server", ((org.postgresql.PGStatement) statement).isUseServerPrepare());
        }
        long total = 0;
        for (int number = 0; number < 300; number++) {
            try (PreparedStatement statement = connection.prepareStatement("SELECT " + number + " + ?::int")) {
                statement.unwrap(org.postgresql.PGStatement.class).setPrepareThreshold(1);
                statement.setInt(1, 1);
                ResultSet result = statement.executeQuery();
                result.next();
                total += result.getInt(1);
            }
        }
        show("many", total);
        // In a transaction: the driver prepares BEGIN itself.
        connection.setAutoCommit(false);
        for (int number = 0; number < 8; number++) {
            try (PreparedStatement statement = connection.prepareStatement("SELECT count(*) FROM items WHERE id > ?")) {
                statement.setInt(1, 0);
                if (number == 7) show("in blocks", rows(statement.executeQuery()));
                else statement.executeQuery();
            }
            connection.commit();
        }
        connection.setAutoCommit(true);
    }

    static PGobject object(String type, String value) throws SQLException {
        PGobject object = new PGobject();
        object.setType(type);
        object.setValue(value);
        return object;
    }

    static void kinds(Connection connection) throws Exception {
        String sql = "INSERT INTO kinds (id, doc, docb, ints, texts, moment, day, price, ratio, raw, span, address, feeling, home, numbers, count,"
            + " flag, big) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int round = 0; round < 7; round++) {
                statement.setObject(1, new UUID(0, round));
                statement.setObject(2, object("json", "{\"a\": 1}"));
                statement.setObject(3, object("jsonb", "{\"b\": [1, null]}"));
                statement.setArray(4, connection.createArrayOf("int4", new Object[] {1, null, 3}));
                statement.setArray(5, connection.createArrayOf("text", new Object[] {"x", "y\"z"}));
                statement.setObject(6, OffsetDateTime.of(2026, 1, 2, 3, 4, 5, 6000, ZoneOffset.UTC));
                statement.setObject(7, LocalDate.of(2026, 2, 3));
                statement.setBigDecimal(8, new BigDecimal("12.345"));
                statement.setDouble(9, 0.5);
                statement.setBytes(10, new byte[] {0, (byte) 255});
                statement.setObject(11, object("interval", "1 day"));
                statement.setObject(12, object("inet", "10.0.0.1/8"));
                statement.setObject(13, object("mood", "happy"));
                statement.setObject(14, object("place", "(Main,7)"));
                statement.setObject(15, object("int4range", "[1,5)"));
                statement.setInt(16, 3);
                statement.setBoolean(17, true);
                statement.setLong(18, 1L << 40);
                statement.executeUpdate();
            }
        }
        // The sixth time in binary form.
        try (PreparedStatement statement = connection.prepareStatement("SELECT * FROM kinds WHERE id = ?")) {
            for (int round = 0; round < 7; round++) {
                statement.setObject(1, new UUID(0, round));
                ResultSet result = statement.executeQuery();
                result.next();
                if (round != 0 && round != 6) continue;
                ResultSetMetaData about = result.getMetaData();
                for (int at = 1; at <= about.getColumnCount(); at++) {
                    Object value = result.getObject(at);
                    if (value instanceof byte[]) value = Arrays.toString((byte[]) value);
                    show(about.getColumnName(at) + " " + about.getColumnTypeName(at) + " " + about.getColumnClassName(at), value);
                }
            }
        }
        show("domain", errorOf(() -> query(connection, "UPDATE kinds SET count = -1 RETURNING 1")));
        query(connection, "DELETE FROM kinds RETURNING 1");
    }

    static void copies(Connection connection) throws Exception {
        CopyManager copies = connection.unwrap(PGConnection.class).getCopyAPI();
        StringBuilder lines = new StringBuilder();
        for (int number = 0; number < 3000; number++) lines.append(number).append("\tnote ").append(number).append('\n');
        show("copied", copies.copyIn("COPY plain (id, note) FROM STDIN", new StringReader(lines.toString())));
        StringWriter out = new StringWriter();
        show("out", copies.copyOut("COPY (SELECT id, writer FROM plain ORDER BY id LIMIT 3) TO STDOUT", out) + " " + out);
        show("copy error", errorOf(() -> copies.copyIn("COPY plain (id, note) FROM STDIN", new StringReader("bad\tline\n"))));
        query(connection, "DELETE FROM plain RETURNING 1");
    }

    static void metadata(Connection connection) throws Exception {
        DatabaseMetaData about = connection.getMetaData();
        show("product", about.getDatabaseProductName() + " " + about.getDatabaseMajorVersion());
        show("schemas", names(about.getSchemas(), "TABLE_SCHEM"));
        show("catalogs", names(about.getCatalogs(), "TABLE_CAT"));
        show("tables", rows(about.getTables(null, "public", "%", new String[] {"TABLE", "VIEW", "SEQUENCE"})));
        show("system tables", names(about.getTables(null, "pg_catalog", "pg_cl%", null), "TABLE_NAME"));
        show("columns", rows(about.getColumns(null, "public", "orders", "%")));
        show("all columns", rows(about.getColumns(null, "public", "%", "%")).size());
        show("key", rows(about.getPrimaryKeys(null, "public", "orders")));
        show("imported", rows(about.getImportedKeys(null, "public", "orders")));
        show("exported", rows(about.getExportedKeys(null, "public", "items")));
        show("references", rows(about.getCrossReference(null, "public", "items", null, "public", "orders")));
        show("functions", names(about.getFunctions(null, "public", "%"), "FUNCTION_NAME"));
        show("function columns", rows(about.getFunctionColumns(null, "public", "shout", "%")).size());
        show("procedures", names(about.getProcedures(null, "public", "%"), "PROCEDURE_NAME"));
        show("procedure columns", rows(about.getProcedureColumns(null, "public", "%", "%")).size());
        show("types", names(about.getTypeInfo(), "TYPE_NAME").contains("uuid"));
        show("own types", names(about.getUDTs(null, "public", "%", null), "TYPE_NAME"));
        show("privileges", rows(about.getTablePrivileges(null, "public", "plain")).size() > 0);
        show("column privileges", rows(about.getColumnPrivileges(null, "public", "plain", "%")).size() > 0);
        show("best row", rows(about.getBestRowIdentifier(null, "public", "orders", DatabaseMetaData.bestRowSession, true)).size());
        show("versions", rows(about.getVersionColumns(null, "public", "orders")).size());
        show("client info", rows(about.getClientInfoProperties()).size());
        show("words", about.getSQLKeywords().length() > 100);
        show("limits", about.getMaxColumnNameLength());
    }

    static TreeSet<String> names(ResultSet result, String column) throws SQLException {
        TreeSet<String> names = new TreeSet<>();
        while (result.next()) names.add(result.getString(column));
        return names;
    }

    static void rest(Connection connection) throws Exception {
        try (Statement statement = connection.createStatement()) {
            statement.executeQuery("SELECT shout('jdbc')");
            show("notice", statement.getWarnings().getMessage());
            statement.setQueryTimeout(1);
            show("timed out", errorOf(() -> statement.executeQuery("SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100049) b")));
        }
        try (Statement statement = connection.createStatement()) {
            CountDownLatch over = new CountDownLatch(1);
            Thread canceller = new Thread(() -> {
                try {
                    // A cancel that comes before the statement is lost.
                    while (!over.await(500, TimeUnit.MILLISECONDS)) statement.cancel();
                } catch (InterruptedException | SQLException error) {
                    show("cannot cancel", error);
                }
            });
            canceller.start();
            show("cancelled", errorOf(() -> statement.executeQuery("SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100057) b")));
            over.countDown();
            canceller.join();
        }
        show("valid", connection.isValid(2));
        show("schema", connection.getSchema());
        connection.setSchema("pg_catalog");
        show("set", connection.getSchema());
        connection.setSchema("public");
        connection.setClientInfo("ApplicationName", "a session");
        show("name", query(connection, "SHOW application_name"));
        show("time zone", query(connection, "SHOW timezone"));
        try (Statement statement = connection.createStatement()) {
            statement.execute("DISCARD ALL");
        }
    }

    static void pools() throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(12);
        List<Future<List<String>>> results = new ArrayList<>();
        for (int thread = 0; thread < 12; thread++) {
            String tenant = "00000000-0000-0000-0000-00000000000" + TENANTS[thread % 3];
            results.add(threads.submit((Callable<List<String>>) () -> {
                List<String> wrong = new ArrayList<>();
                try (Connection connection = connect(tenant)) {
                    connection.setAutoCommit(false);
                    for (int round = 0; round < 15; round++) {
                        try (PreparedStatement read = connection.prepareStatement("SELECT tenant_id::text FROM items WHERE id > ?");
                             PreparedStatement write = connection.prepareStatement("INSERT INTO plain (note) VALUES (?)")) {
                            read.setInt(1, 0);
                            for (List<Object> row : rows(read.executeQuery())) if (!row.get(0).equals(tenant)) wrong.add(tenant + row);
                            write.setString(1, tenant);
                            write.executeUpdate();
                            connection.commit();
                        }
                    }
                }
                return wrong;
            }));
        }
        List<String> wrong = new ArrayList<>();
        for (Future<List<String>> result : results) wrong.addAll(result.get());
        threads.shutdown();
        show("wrong", wrong);
        try (Connection connection = connect(TENANT)) {
            show("written as", query(connection, "SELECT count(*) FROM plain WHERE writer = note"));
        }
    }

    static void refusals() throws Exception {
        try (Connection connection = connect(null)) {
            for (String sql : new String[] {"LISTEN channel", "SET app.tenant_id = 'x'", "SELECT currval('tickets')", "CREATE TABLE t (id int)"}) {
                show(sql, errorOf(() -> {
                    try (Statement statement = connection.createStatement()) {
                        statement.execute(sql);
                    }
                }));
            }
            show("getIndexInfo", errorOf(
                () -> connection.getMetaData().getIndexInfo(null, "public", "orders", false, true)));
            show("large objects", errorOf(() -> {
                connection.setAutoCommit(false);
                connection.unwrap(PGConnection.class).getLargeObjectAPI().createLO();
            }));
            connection.rollback();
            connection.setHoldability(ResultSet.HOLD_CURSORS_OVER_COMMIT);
            show("alive", query(connection, "SELECT count(*) FROM items"));
        }
    }

    public static void main(String[] arguments) throws Exception {
        if (System.getenv("REFUSALS") != null) {
            refusals();
            return;
        }
        try (Connection connection = connect(null)) {
            statements(connection);
            transactions(connection);
            prepared(connection);
            kinds(connection);
            copies(connection);
            metadata(connection);
            rest(connection);
        }
        // Always simple Queries, and rewritten batches.
        try (Connection connection = connect(null, "preferQueryMode", "simple", "reWriteBatchedInserts", "true")) {
            statements(connection);
            transactions(connection);
        }
        pools();
    }
}
