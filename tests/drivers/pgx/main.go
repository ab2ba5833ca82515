// A session of pgx (version 4, as Debian has it) and its pool, also by database/sql. Prints what it sees; run directly and
// through TenantGate it must print the same.
package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
	"github.com/jackc/pgx/v4/stdlib"
)

var (
	ctx     = context.Background()
	tenant  = os.Getenv("TENANT")
	tenants = []string{"a", "b", "c"}
)

const slow = "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100129) b"

func show(title string, values ...interface{}) { fmt.Println(append([]interface{}{title + ":"}, values...)...) }

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "unexpected:", err)
		os.Exit(1)
	}
}

func errorOf(err error) string {
	var pgError *pgconn.PgError
	if errors.As(err, &pgError) {
		return fmt.Sprintf("%s %s @%d", pgError.Code, pgError.Message, pgError.Position)
	}
	if err == nil {
		return "no error"
	}
	return err.Error()
}

// What the tenant is named by: the user name, or else a startup parameter.
func place(of string) (string, map[string]string) {
	user := os.Getenv("PGUSER")
	if of != "" {
		user = strings.Split(user, ".")[0]
	} else {
		of = tenant
	}
	if strings.Contains(user, ".") {
		return user, nil
	}
	return user, map[string]string{"app.tenant_id": of}
}

func connect(notices func(*pgconn.Notice)) *pgx.Conn {
	config, err := pgx.ParseConfig("")
	must(err)
	user, parameters := place("")
	config.User = user
	for name, value := range parameters {
		config.RuntimeParams[name] = value
	}
	if notices != nil {
		config.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) { notices(notice) }
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	must(err)
	return conn
}

type querier interface {
	Query(context.Context, string, ...interface{}) (pgx.Rows, error)
}

func rows(on querier, text string, arguments ...interface{}) interface{} {
	result, err := on.Query(ctx, text, arguments...)
	if err != nil {
		return errorOf(err)
	}
	defer result.Close()
	var all [][]interface{}
	for result.Next() {
		values, err := result.Values()
		must(err)
		all = append(all, values)
	}
	if result.Err() != nil {
		return errorOf(result.Err())
	}
	return all
}

func statements(conn *pgx.Conn) {
	show("rows", rows(conn, "SELECT id, name, tenant_id::text FROM items ORDER BY id"))
	show("parameters", rows(conn, "SELECT id FROM items WHERE id > $1 AND name <> $2 ORDER BY id", 1, "x"))
	show("simple", rows(conn, "SELECT id, name FROM items WHERE id = $1", pgx.QuerySimpleProtocol(true), 2))
	results, err := conn.PgConn().Exec(ctx, "SELECT 1; UPDATE items SET qty = qty; SELECT 2").ReadAll()
	must(err)
	for _, result := range results {
		show("several", string(result.CommandTag))
	}
	show("error", rows(conn, "SELECT nosuch FROM items"))
	_, err = conn.Exec(ctx, "INSERT INTO items (id, name) VALUES (1, 'again')")
	show("unique", errorOf(err))
}

func transactions(conn *pgx.Conn) {
	tx, err := conn.Begin(ctx)
	must(err)
	_, err = tx.Exec(ctx, "INSERT INTO items (id, name) VALUES ($1, $2)", 70, "kept")
	must(err)
	inner, err := tx.Begin(ctx)
	must(err)
	_, err = inner.Exec(ctx, "SELECT 1/0")
	show("inner", errorOf(err))
	must(inner.Rollback(ctx))
	must(tx.Commit(ctx))
	tx, err = conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.Serializable, AccessMode: pgx.ReadOnly, DeferrableMode: pgx.Deferrable})
	must(err)
	_, err = tx.Exec(ctx, "DELETE FROM items")
	show("read only", errorOf(err))
	must(tx.Rollback(ctx))
	show("after", rows(conn, "SELECT id FROM items ORDER BY id"))
}

func prepared(conn *pgx.Conn) {
	described, err := conn.Prepare(ctx, "by id", "SELECT name FROM items WHERE id = $1")
	must(err)
	show("described", described.ParamOIDs, len(described.Fields))
	for number := 0; number < 8; number++ {
		show("prepared", rows(conn, "by id", 1+number%3))
	}
	// More than the driver's cache of 512 and the server's of 200.
	total := 0
	for number := 0; number < 600; number++ {
		var sum int
		must(conn.QueryRow(ctx, fmt.Sprintf("SELECT %d + $1::int", number), 1).Scan(&sum))
		total += sum
	}
	show("many", total)
	must(conn.Deallocate(ctx, "by id"))
	show("gone", rows(conn, "SELECT 1"))
}

func batches(conn *pgx.Conn) {
	batch := &pgx.Batch{}
	for number := 0; number < 20; number++ {
		batch.Queue("SELECT $1::int, count(*) FROM items", number)
	}
	results := conn.SendBatch(ctx, batch)
	for number := 0; number < 20; number++ {
		var got, count int
		must(results.QueryRow().Scan(&got, &count))
		if number%10 == 0 {
			show("batch", got, count)
		}
	}
	must(results.Close())
	batch = &pgx.Batch{}
	batch.Queue("INSERT INTO items (id, name) VALUES (80, 'lost')")
	batch.Queue("SELECT 1/0")
	results = conn.SendBatch(ctx, batch)
	_, err := results.Exec()
	show("first", errorOf(err))
	_, err = results.Exec()
	show("second", errorOf(err))
	_ = results.Close()
	show("not there", rows(conn, "SELECT count(*) FROM items WHERE id = 80"))
}

func kinds(conn *pgx.Conn) {
	_, err := conn.Exec(ctx, `INSERT INTO kinds (id, doc, docb, ints, texts, moment, day, price, ratio, raw, span, address, feeling, home,
		numbers, count, flag, big) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, '(Main,7)', $14, $15, $16, $17)`,
		"11111111-1111-1111-1111-111111111111", map[string]int{"a": 1}, map[string]interface{}{"b": []int{1}}, []int32{1, 3},
		[]string{"x", `y"z`}, time.Unix(0, 0), time.Date(2026, 2, 3, 0, 0, 0, 0, time.UTC), "12.345", 0.5, []byte{0, 255}, 26*time.Hour,
		"10.0.0.1/8", "happy", "[1,5)", 3, true, int64(1)<<40)
	must(err)
	var document map[string]int
	var ints []int32
	var texts []string
	var moment time.Time
	var price float64
	var raw []byte
	var span time.Duration
	var feeling, home, numbers string
	must(conn.QueryRow(ctx, "SELECT doc, ints, texts, moment, price, raw, span, feeling::text, home::text, numbers::text FROM kinds").
		Scan(&document, &ints, &texts, &moment, &price, &raw, &span, &feeling, &home, &numbers))
	show("kinds", document, ints, texts, moment.UTC(), price, raw, span, feeling, home, numbers)
	_, err = conn.Exec(ctx, "DELETE FROM kinds")
	must(err)
}

func copies(conn *pgx.Conn) {
	lines := make([][]interface{}, 3000)
	for number := range lines {
		lines[number] = []interface{}{int32(number), fmt.Sprintf("note %d", number)}
	}
	count, err := conn.CopyFrom(ctx, pgx.Identifier{"plain"}, []string{"id", "note"}, pgx.CopyFromRows(lines))
	show("copied", count, errorOf(err))
	var out bytes.Buffer
	tag, err := conn.PgConn().CopyTo(ctx, &out, "COPY (SELECT id, writer FROM plain ORDER BY id LIMIT 3) TO STDOUT")
	show("out", string(tag), errorOf(err), out.String())
	_, err = conn.PgConn().CopyFrom(ctx, strings.NewReader("bad\tline\n"), "COPY plain (id, note) FROM STDIN")
	show("copy error", errorOf(err))
	_, err = conn.Exec(ctx, "DELETE FROM plain")
	must(err)
}

func rest(conn *pgx.Conn) {
	_, err := conn.Exec(ctx, "SELECT shout('pgx')")
	must(err)
	_, err = conn.Exec(ctx, "SET timezone = 'Asia/Tokyo'")
	must(err)
	show("timezone", conn.PgConn().ParameterStatus("TimeZone"), rows(conn, "SHOW timezone"))
	_, err = conn.Exec(ctx, "SELECT set_config('TimeZone', $1, false)", "Europe/Berlin")
	show("set_config", errorOf(err), rows(conn, "SHOW timezone"))
	other := connect(nil)
	// A cancel that comes before the statement is lost.
	again, over := time.NewTicker(500*time.Millisecond), make(chan struct{})
	go func() {
		for {
			select {
			case <-again.C:
				_ = other.PgConn().CancelRequest(ctx)
			case <-over:
				return
			}
		}
	}()
	show("cancelled", rows(other, slow))
	again.Stop()
	close(over)
	show("alive", rows(other, "SELECT count(*) FROM items"))
	limited, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	defer stop()
	_, err = other.Exec(limited, slow)
	show("timed out", err != nil, other.IsClosed())
}

func pools() {
	var group sync.WaitGroup
	var lock sync.Mutex
	wrong := 0
	for _, letter := range tenants {
		of := "00000000-0000-0000-0000-00000000000" + letter
		config, err := pgxpool.ParseConfig("")
		must(err)
		user, parameters := place(of)
		config.ConnConfig.User = user
		for name, value := range parameters {
			config.ConnConfig.RuntimeParams[name] = value
		}
		config.MaxConns = 4
		pool, err := pgxpool.ConnectConfig(ctx, config)
		must(err)
		defer pool.Close()
		for worker := 0; worker < 8; worker++ {
			group.Add(1)
			go func() {
				defer group.Done()
				for round := 0; round < 12; round++ {
					must(pool.BeginFunc(ctx, func(tx pgx.Tx) error {
						var others int
						err := tx.QueryRow(ctx, "SELECT count(*) FROM items WHERE tenant_id::text <> $1 AND id > $2", of, 0).Scan(&others)
						lock.Lock()
						wrong += others
						lock.Unlock()
						if err == nil {
							_, err = tx.Exec(ctx, "INSERT INTO plain (note) VALUES ($1)", of)
						}
						return err
					}))
				}
			}()
		}
	}
	group.Wait()
	show("wrong", wrong)
	conn := connect(nil)
	show("written as", rows(conn, "SELECT count(*) FROM plain WHERE writer = note"))
	must(conn.Close(ctx))
}

// database/sql over pgx.
func standard() {
	config, err := pgx.ParseConfig("")
	must(err)
	user, parameters := place("")
	config.User = user
	for name, value := range parameters {
		config.RuntimeParams[name] = value
	}
	database := stdlib.OpenDB(*config)
	defer database.Close()
	tx, err := database.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	must(err)
	var level string
	must(tx.QueryRow("SHOW transaction_isolation").Scan(&level))
	must(tx.Rollback())
	show("database/sql", level)
	statement, err := database.Prepare("SELECT name FROM items WHERE id = $1")
	must(err)
	var name string
	must(statement.QueryRow(2).Scan(&name))
	show("statement", name)
	must(statement.Close())
	must(database.Ping())
}

func refusals() {
	conn := connect(nil)
	for _, text := range []string{"LISTEN channel", "SET app.tenant_id = 'x'", "SELECT lastval()", "CREATE TEMP TABLE t (id int)"} {
		_, err := conn.Exec(ctx, text)
		show(text, errorOf(err))
	}
	_, err := conn.Exec(ctx, "SELECT set_config('app.tenant_id', $1, true)", "x")
	show("by function", errorOf(err))
	show("alive", rows(conn, "SELECT count(*) FROM items"))
}

func main() {
	if os.Getenv("REFUSALS") != "" {
		refusals()
		return
	}
	conn := connect(func(notice *pgconn.Notice) { show("notice", notice.Severity, notice.Message) })
	statements(conn)
	transactions(conn)
	prepared(conn)
	batches(conn)
	kinds(conn)
	copies(conn)
	rest(conn)
	must(conn.Close(ctx))
	pools()
	standard()
}
