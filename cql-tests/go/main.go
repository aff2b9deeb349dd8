// The Go driver does an application's work. usage: go run . HOST:PORT
package main

import (
	"fmt"
	"log"
	"os"

	"github.com/gocql/gocql"
)

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	cluster := gocql.NewCluster(os.Args[1])
	cluster.Consistency = gocql.LocalQuorum
	session, err := cluster.CreateSession()
	must(err)
	defer session.Close()
	must(session.Query("CREATE KEYSPACE IF NOT EXISTS go_app WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}").Exec())
	must(session.Query("CREATE TABLE go_app.t (k int, c int, v text, s set<text>, PRIMARY KEY (k, c))").Exec())
	for i := 0; i < 500; i++ {
		must(session.Query("INSERT INTO go_app.t (k, c, v, s) VALUES (?, ?, ?, ?)", i%3, i, fmt.Sprint("row ", i), []string{"a", "b"}).Exec())
	}
	iter := session.Query("SELECT k, c, v, s FROM go_app.t").PageSize(60).Iter()
	rows, k, c, v, s := 0, 0, 0, "", []string{}
	for iter.Scan(&k, &c, &v, &s) {
		if v != fmt.Sprint("row ", c) || len(s) != 2 || k != c%3 {
			log.Fatal("a wrong row: ", k, c, v, s)
		}
		rows++
	}
	must(iter.Close())
	if rows != 500 {
		log.Fatal("rows: ", rows)
	}
	batch := session.NewBatch(gocql.LoggedBatch)
	batch.Query("INSERT INTO go_app.t (k, c, v) VALUES (?, ?, ?)", 9, 1, "x")
	batch.Query("INSERT INTO go_app.t (k, c, v) VALUES (?, ?, ?)", 9, 2, "y")
	must(session.ExecuteBatch(batch))
	var count int
	must(session.Query("SELECT count(*) FROM go_app.t WHERE k = ?", 9).Scan(&count))
	if count != 2 {
		log.Fatal("count: ", count)
	}
	if session.Query("SELECT nope FROM go_app.t").Exec() == nil {
		log.Fatal("an error was wanted")
	}
	must(session.Query("DROP KEYSPACE go_app").Exec())
	fmt.Println("the Go driver found everything as it should be")
}
