//! What the tree holds.

use cql_parser::ast::*;
use cql_parser::{parse_statement, quoted_name};

#[expect(clippy::panic, reason = "a test fails by panicking")]
fn parse(cql: &str) -> StatementKind {
    match parse_statement(cql) {
        Ok(statement) => statement.kind,
        Err(error) => panic!("{cql}: {error}"),
    }
}

fn integer(text: &str) -> Term {
    Term::Constant(Constant::Integer(text.to_owned()))
}

fn table(name: &str) -> QualifiedName {
    QualifiedName { keyspace: None, name: name.to_owned() }
}

#[test]
fn names_are_folded_unless_quoted() {
    let StatementKind::Select(select) = parse(r#"SELECT Abc, "Abc", "a""b" FROM Ks."T""#) else {
        panic!("no select")
    };
    let columns: Vec<Selectable> = match select.selection {
        Selection::Selectors(selectors) => {
            selectors.into_iter().map(|selector| selector.selectable).collect()
        }
        Selection::All => panic!("no selectors"),
    };
    let expected = ["abc", "Abc", "a\"b"].map(|name| Selectable::Column(name.to_owned()));
    assert_eq!(columns, expected);
    assert_eq!(
        select.from,
        QualifiedName { keyspace: Some("ks".to_owned()), name: "T".to_owned() }
    );
}

#[test]
fn markers_are_numbered_in_the_order_of_the_text() {
    let statement =
        parse_statement("UPDATE t USING TTL ? SET a = :Name WHERE k = ? AND c IN :ids").unwrap();
    assert_eq!(
        statement.bind_markers,
        [None, Some("name".to_owned()), None, Some("ids".to_owned())]
    );
    let StatementKind::Update(update) = statement.kind else { panic!("no update") };
    assert_eq!(update.using.ttl, Some(Term::BindMarker(BindMarker { index: 0 })));
    assert_eq!(
        update.where_clause.last(),
        Some(&Relation::ColumnIn {
            column: "c".to_owned(),
            negated: false,
            values: InValues::Marker(BindMarker { index: 3 })
        })
    );
}

#[test]
fn markers_of_an_abandoned_reading_are_not_counted() {
    let statement = parse_statement("SELECT json[?] FROM t WHERE a = ?").unwrap();
    let StatementKind::Select(select) = statement.kind else { panic!("no select") };
    assert!(select.json);
    assert_eq!(statement.bind_markers.len(), 2);
    let statement = parse_statement("SELECT distinct AS a, ? AS b FROM t").unwrap();
    assert_eq!(statement.bind_markers.len(), 1);
}

#[test]
fn every_assignment_has_its_operation() {
    let StatementKind::Update(update) = parse(
        "UPDATE t SET a = 1, b = b + 2, c = c - 3, d = 4 + d, e += 5, f -= 6, g[7] = 8, h.i = 9, j = j -1 WHERE k = 0",
    ) else {
        panic!("no update")
    };
    let operations: Vec<Operation> =
        update.assignments.into_iter().map(|assignment| assignment.operation).collect();
    assert_eq!(
        operations,
        [
            Operation::Set(integer("1")),
            Operation::Add(integer("2")),
            Operation::Subtract(integer("3")),
            Operation::Prepend(integer("4")),
            Operation::Add(integer("5")),
            Operation::Subtract(integer("6")),
            Operation::SetElement { key: integer("7"), value: integer("8") },
            Operation::SetField { field: "i".to_owned(), value: integer("9") },
            Operation::Add(integer("-1")),
        ]
    );
}

#[test]
fn products_bind_tighter_than_sums_and_both_lean_left() {
    let StatementKind::Insert(insert) = parse("INSERT INTO t (a) VALUES (1 + 2 * 3 - 4)") else {
        panic!("no insert")
    };
    let InsertValues::Columns { values, .. } = insert.values else { panic!("no values") };
    let arithmetic = |left, operator, right| Term::Arithmetic {
        operator,
        left: Box::new(left),
        right: Box::new(right),
    };
    let product = arithmetic(integer("2"), ArithmeticOperator::Multiply, integer("3"));
    let sum = arithmetic(integer("1"), ArithmeticOperator::Add, product);
    assert_eq!(values, [arithmetic(sum, ArithmeticOperator::Subtract, integer("4"))]);
}

#[test]
fn braces_are_sets_maps_or_user_types() {
    let StatementKind::Insert(insert) =
        parse("INSERT INTO t (a) VALUES ([{}, {1}, {1: 2}, {f: 2}, {'f': 2}])")
    else {
        panic!("no insert")
    };
    let InsertValues::Columns { values, .. } = insert.values else { panic!("no values") };
    let text = Term::Constant(Constant::String("f".to_owned()));
    assert_eq!(
        values,
        [Term::List(vec![
            Term::Set(vec![]),
            Term::Set(vec![integer("1")]),
            Term::Map(vec![(integer("1"), integer("2"))]),
            Term::UserType(vec![("f".to_owned(), integer("2"))]),
            Term::Map(vec![(text, integer("2"))]),
        ])]
    );
}

#[test]
fn strings_are_unescaped() {
    let StatementKind::Insert(insert) = parse("INSERT INTO t (a) VALUES (('it''s', $$it's$$, ''))")
    else {
        panic!("no insert")
    };
    let InsertValues::Columns { values, .. } = insert.values else { panic!("no values") };
    let expected =
        ["it's", "it's", ""].map(|text| Term::Constant(Constant::String(text.to_owned())));
    assert_eq!(values, [Term::Tuple(expected.to_vec())]);
}

#[test]
fn a_table_keeps_its_keys_and_options() {
    let StatementKind::CreateTable(create) = parse(
        "CREATE TABLE t (a int, b text STATIC, c frozen<list<int>>, PRIMARY KEY ((a), c)) WITH CLUSTERING ORDER BY (c DESC) \
         AND CUSTOM_PROPERTIES = {'encryption_specification': {'encryption_type': 'X'}, 'n': 1} AND cdc = TRUE",
    ) else {
        panic!("no table")
    };
    assert_eq!(create.name, table("t"));
    assert_eq!(
        create.primary_keys,
        [PrimaryKey { partition_key: vec!["a".to_owned()], clustering: vec!["c".to_owned()] }]
    );
    assert_eq!(create.clustering_order, [("c".to_owned(), true)]);
    let statics: Vec<bool> = create.columns.iter().map(|column| column.is_static).collect();
    assert_eq!(statics, [false, true, false]);
    let list =
        TypeName::Frozen(Box::new(TypeName::List(Box::new(TypeName::Native(NativeType::Int)))));
    assert_eq!(create.columns.last().map(|column| &column.ty), Some(&list));
    let [custom, cdc] = create.properties.as_slice() else { panic!("two properties") };
    assert_eq!((custom.name.as_str(), cdc.name.as_str()), ("custom_properties", "cdc"));
    let encryption =
        custom.value.map().and_then(|entries| entries.first()).and_then(|(_, value)| value.map());
    let kind = encryption.and_then(|entries| entries.first()).and_then(|(_, value)| value.text());
    assert_eq!(kind, Some("X"));
    assert_eq!(cdc.value.text(), Some("true"));
}

#[test]
fn tags_are_a_change_and_also_a_columns_name() {
    let StatementKind::AlterTable(alter) = parse("ALTER TABLE t ADD TAGS {'a': 'b'}") else {
        panic!("no alter")
    };
    assert!(matches!(alter.change, TableChange::AddTags(_)));
    let StatementKind::AlterTable(alter) = parse("ALTER TABLE t ADD tags int") else {
        panic!("no alter")
    };
    assert!(matches!(alter.change, TableChange::AddColumns { .. }));
}

#[test]
fn passwords_stay_out_of_debug_output() {
    let shown = format!("{:?}", parse("CREATE ROLE r WITH PASSWORD = 'secret'"));
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn quoted_names_read_back_as_themselves() {
    for name in ["a", "Upper", "with \" quote", "select", "ttl", "1a", "é"] {
        let StatementKind::Use(read) = parse(&format!("USE {}", quoted_name(name))) else {
            panic!("no use")
        };
        assert_eq!(read, name);
    }
}
