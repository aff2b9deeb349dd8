module coffer/clients

go 1.21

require github.com/gocql/gocql v1.7.0
