//! Random SELECTs of a table.

use super::{
    Random,
    table::{Column, Kind, Table},
    value::Type,
};

/// A SELECT; most are right, some are not.
pub(super) fn select(table: &Table, random: &mut Random) -> String {
    let distinct = random.chance(6);
    let projection =
        if distinct { distinct_projection(table, random) } else { projection(table, random) };
    let mut relations = partition(table, random);
    let clustering = table.clustering();
    if !distinct || random.chance(10) {
        if random.chance(60) {
            relations.extend(narrowing(&clustering, random));
        }
        if random.chance(15) {
            relations.extend(loose(table, random));
        }
    } else if random.chance(10) {
        relations.extend(loose(table, random));
    }
    let mut text = format!("SELECT {projection} FROM {}", table.name);
    if !relations.is_empty() {
        text.push_str(&format!(" WHERE {}", relations.join(" AND ")));
    }
    if random.chance(25) && !clustering.is_empty() {
        text.push_str(&order(&clustering, random));
    }
    if random.chance(10) {
        text.push_str(&format!(" PER PARTITION LIMIT {}", 1 + random.below(3)));
    }
    if random.chance(25) {
        text.push_str(&format!(" LIMIT {}", 1 + random.below(9)));
    }
    if random.chance(70) {
        text.push_str(" ALLOW FILTERING");
    }
    text
}

fn names(columns: &[&Column]) -> String {
    columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn distinct_projection(table: &Table, random: &mut Random) -> String {
    let mut chosen = table.partition();
    if random.chance(60) {
        chosen.extend(table.of(|kind| kind == Kind::Static));
    }
    format!("DISTINCT {}", names(&chosen))
}

fn projection(table: &Table, random: &mut Random) -> String {
    match random.below(10) {
        0..4 => "*".to_owned(),
        4..7 => {
            let columns: Vec<&Column> = table.columns.iter().collect();
            names(&random.some(&columns).into_iter().copied().collect::<Vec<_>>())
        }
        7 => {
            let count = 1 + random.below(3);
            (0..count).map(|_| aggregate(table, random)).collect::<Vec<_>>().join(", ")
        }
        _ => {
            let count = 1 + random.below(4);
            (0..count).map(|_| expression(table, random)).collect::<Vec<_>>().join(", ")
        }
    }
}

fn aggregate(table: &Table, random: &mut Random) -> String {
    let column = random.pick(&table.columns);
    let name = &column.name;
    match random.below(7) {
        0 => "count(*)".to_owned(),
        1 => format!("count({name})"),
        // Cassandra names another type for the least and greatest of this one.
        2 | 3 if column.ty == Type::Native("timeuuid") => format!("count({name})"),
        2 => format!("min({name})"),
        3 => format!("max({name})"),
        4 => format!("sum({name})"),
        5 => format!("avg({name}) AS mean"),
        _ => name.clone(),
    }
}

fn expression(table: &Table, random: &mut Random) -> String {
    let column = random.pick(&table.columns);
    let name = &column.name;
    match (random.below(9), column.ty.unfrozen()) {
        (0 | 1, _) => format!("writetime({name})"),
        (2, _) => format!("maxwritetime({name}) AS latest"),
        (3, _) => format!("token({})", names(&table.partition())),
        (4, _) => format!("CAST({name} AS text)"),
        (_, Type::Map(key, _) | Type::Set(key)) if random.chance(50) => {
            format!("{name}[{}]", key.literal(random))
        }
        (_, Type::User("address")) => format!("{name}.street, {name}.tags"),
        (_, Type::User(_)) => format!("{name}.second"),
        (_, Type::Native(native)) if random.chance(50) => format!("{native}_as_blob({name})"),
        (5, Type::List(_) | Type::Set(_) | Type::Map(..))
            if column.kind != (Kind::Clustering { descending: true }) =>
        {
            format!("collection_count({name})")
        }
        _ => name.clone(),
    }
}

fn equal(column: &Column, random: &mut Random) -> String {
    if random.chance(15) {
        let values: Vec<String> = (0..1 + random.below(4)).map(|_| column.value(random)).collect();
        return format!("{} IN ({})", column.name, values.join(", "));
    }
    format!("{} = {}", column.name, column.loose_value(random))
}

fn partition(table: &Table, random: &mut Random) -> Vec<String> {
    let key = table.partition();
    match random.below(10) {
        0..2 => Vec::new(),
        2..7 => key.iter().map(|column| equal(column, random)).collect(),
        7 => {
            let column = random.pick(&key);
            vec![equal(column, random)]
        }
        _ => {
            let bound = |random: &mut Random| match random.below(3) {
                0 => "0".to_owned(),
                1 => "-4611686018427387904".to_owned(),
                _ => {
                    let values: Vec<String> =
                        key.iter().map(|column| column.value(random)).collect();
                    format!("token({})", values.join(", "))
                }
            };
            let mut relations = Vec::new();
            let token = format!("token({})", names(&key));
            if random.chance(70) {
                let operator = random.pick(&[">", ">="]);
                relations.push(format!("{token} {operator} {}", bound(random)));
            }
            if relations.is_empty() || random.chance(50) {
                let operator = random.pick(&["<", "<="]);
                relations.push(format!("{token} {operator} {}", bound(random)));
            }
            relations
        }
    }
}

/// Restrictions that follow the clustering key.
fn narrowing(clustering: &[&Column], random: &mut Random) -> Vec<String> {
    let given = random.below(clustering.len() + 1);
    if given > 1 && random.chance(25) {
        let columns: Vec<&Column> = clustering.iter().copied().take(given).collect();
        let tuples: Vec<String> =
            (0..1 + random.below(3)).map(|_| tuple(&columns, random)).collect();
        return vec![format!("({}) IN ({})", names(&columns), tuples.join(", "))];
    }
    let mut relations: Vec<String> =
        clustering.iter().take(given).map(|column| equal(column, random)).collect();
    if given < clustering.len() && random.chance(60) {
        relations.extend(slice(clustering, given, random));
    }
    relations
}

fn tuple(columns: &[&Column], random: &mut Random) -> String {
    let values: Vec<String> = columns.iter().map(|column| column.value(random)).collect();
    format!("({})", values.join(", "))
}

/// A slice of the columns from `first` on: of one, or of several at once.
pub(super) fn slice(clustering: &[&Column], first: usize, random: &mut Random) -> Vec<String> {
    let rest: Vec<&Column> = clustering.iter().copied().skip(first).collect();
    let columns: Vec<&Column> = rest.iter().copied().take(1 + random.below(rest.len())).collect();
    let mut relations = Vec::new();
    for (operators, percent) in [([">", ">="], 60), (["<", "<="], 50)] {
        if !random.chance(percent) {
            continue;
        }
        let operator = random.pick(&operators);
        if let [only] = columns.as_slice()
            // In parentheses Cassandra takes the fields of a tuple for columns.
            && (matches!(only.ty.unfrozen(), Type::Tuple(_)) || random.chance(70))
        {
            relations.push(format!("{} {operator} {}", only.name, only.value(random)));
        } else {
            let end = 1 + random.below(columns.len());
            let columns: Vec<&Column> = columns.iter().copied().take(end).collect();
            relations.push(format!("({}) {operator} {}", names(&columns), tuple(&columns, random)));
        }
    }
    relations
}

/// A restriction of any column.
fn loose(table: &Table, random: &mut Random) -> Vec<String> {
    let column = random.pick(&table.columns);
    let name = &column.name;
    let relation = match (column.ty.unfrozen(), random.below(6)) {
        // Cassandra takes the reversed type of such a column for no collection.
        (_, 0..4) if column.kind == (Kind::Clustering { descending: true }) => {
            equal(column, random)
        }
        (Type::List(element) | Type::Set(element), 0..4) => {
            format!("{name} CONTAINS {}", element.literal(random))
        }
        (Type::Map(_, content), 0..2) => format!("{name} CONTAINS {}", content.literal(random)),
        (Type::Map(key, _), 2) => format!("{name} CONTAINS KEY {}", key.literal(random)),
        (Type::Map(key, content), 3) => {
            format!("{name}[{}] = {}", key.literal(random), content.literal(random))
        }
        (_, 0..3) => equal(column, random),
        (_, 3) => format!("{name} > {}", column.value(random)),
        (_, 4) => format!("{name} <= {}", column.value(random)),
        _ => format!("{name} >= {} AND {name} < {}", column.value(random), column.value(random)),
    };
    vec![relation]
}

fn order(clustering: &[&Column], random: &mut Random) -> String {
    let turned = random.chance(50);
    let skipped = if random.chance(20) { random.below(clustering.len()) } else { 0 };
    let count = 1 + random.below(clustering.len());
    let items: Vec<String> = clustering
        .iter()
        .skip(skipped)
        .take(count)
        .map(|column| {
            let descending = matches!(column.kind, Kind::Clustering { descending: true });
            let descending = if random.chance(3) { !descending } else { descending };
            let direction = if descending == turned { "ASC" } else { "DESC" };
            format!("{} {direction}", column.name)
        })
        .collect();
    format!(" ORDER BY {}", items.join(", "))
}
