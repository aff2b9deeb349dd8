//! Random tables and the statements that change their rows.

use super::{Random, value::Type};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Partition,
    Clustering { descending: bool },
    Static,
    Regular,
}

#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) ty: Type,
    pub(super) kind: Kind,
    /// Literals that come back again and again.
    pool: Vec<String>,
}

impl Column {
    fn new(random: &mut Random, name: String, ty: Type, kind: Kind) -> Column {
        let pool = (0..4).map(|_| ty.literal(random)).collect();
        Column { name, ty, kind, pool }
    }

    pub(super) fn value(&self, random: &mut Random) -> String {
        if random.chance(85) { random.pick(&self.pool).clone() } else { self.ty.literal(random) }
    }

    /// A value, now and then null or one of another type.
    pub(super) fn loose_value(&self, random: &mut Random) -> String {
        match random.below(200) {
            0 => "null".to_owned(),
            // Cassandra reads any literal as the text of a tuple.
            1 if !matches!(self.ty.unfrozen(), Type::Tuple(_)) => Type::any(random).literal(random),
            _ => self.value(random),
        }
    }
}

/// A table.
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    ttl: usize,
}

impl Table {
    pub(super) fn random(random: &mut Random, name: &str) -> Table {
        let mut letters: Vec<char> = ('a'..='z').collect();
        let mut columns = Vec::new();
        let mut add = |random: &mut Random, ty: Type, kind: Kind| {
            let letter = letters.swap_remove(random.below(letters.len()));
            columns.push(Column::new(random, format!("{letter}1"), ty, kind));
        };
        for _ in 0..*random.pick(&[1, 1, 1, 2, 3]) {
            let ty = Type::frozen(random);
            add(random, ty, Kind::Partition);
        }
        let clustering = random.below(4);
        for _ in 0..clustering {
            let ty = Type::frozen(random);
            let descending = random.chance(40);
            add(random, ty, Kind::Clustering { descending });
        }
        if clustering > 0 {
            for _ in 0..random.below(3) {
                let ty = Type::any(random);
                add(random, ty, Kind::Static);
            }
        }
        for _ in 0..random.below(6) {
            let ty = Type::any(random);
            add(random, ty, Kind::Regular);
        }
        Table { name: name.to_owned(), columns, ttl: 0 }
    }

    pub(super) fn of(&self, wanted: impl Fn(Kind) -> bool) -> Vec<&Column> {
        self.columns.iter().filter(|column| wanted(column.kind)).collect()
    }

    pub(super) fn partition(&self) -> Vec<&Column> {
        self.of(|kind| kind == Kind::Partition)
    }

    pub(super) fn clustering(&self) -> Vec<&Column> {
        self.of(|kind| matches!(kind, Kind::Clustering { .. }))
    }

    pub(super) fn create_statement(&self) -> String {
        let names = |columns: &[&Column]| {
            columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let definitions: Vec<String> = self
            .columns
            .iter()
            .map(|column| {
                let suffix = if column.kind == Kind::Static { " STATIC" } else { "" };
                format!("{} {}{suffix}", column.name, column.ty.text())
            })
            .collect();
        let clustering = self.clustering();
        let mut key = format!("({})", names(&self.partition()));
        if !clustering.is_empty() {
            key = format!("{key}, {}", names(&clustering));
        }
        let mut text =
            format!("CREATE TABLE {} ({}, PRIMARY KEY ({key}))", self.name, definitions.join(", "));
        let order: Vec<String> = clustering
            .iter()
            .map(|column| match column.kind {
                Kind::Clustering { descending: true } => format!("{} DESC", column.name),
                _ => format!("{} ASC", column.name),
            })
            .collect();
        if !order.is_empty() {
            text.push_str(&format!(" WITH CLUSTERING ORDER BY ({})", order.join(", ")));
        }
        text
    }

    /// INSERT, UPDATE, DELETE or a batch of them.
    pub(super) fn modification(&mut self, random: &mut Random) -> String {
        if random.chance(8) {
            let timestamp = random.below(40);
            let statements: Vec<String> =
                (0..1 + random.below(4)).map(|_| self.single(random, "")).collect();
            return format!(
                "BEGIN {}BATCH USING TIMESTAMP {timestamp} {}; APPLY BATCH",
                random.pick(&["", "UNLOGGED "]),
                statements.join("; ")
            );
        }
        let timestamp = format!("TIMESTAMP {}", random.below(40));
        self.single(random, &timestamp)
    }

    fn single(&mut self, random: &mut Random, timestamp: &str) -> String {
        let mut using = vec![timestamp.to_owned()];
        if random.chance(10) {
            self.ttl += 1;
            using.push(format!("TTL {}", 1_000_000 + 1000 * self.ttl));
        }
        using.retain(|option| !option.is_empty());
        let using = if using.is_empty() {
            String::new()
        } else {
            format!(" USING {}", using.join(" AND "))
        };
        match random.below(10) {
            0..5 => self.insert(random, &using),
            5..8 => self.update(random, &using),
            _ => self.delete(random, timestamp),
        }
    }

    fn insert(&self, random: &mut Random, using: &str) -> String {
        let only_static = random.chance(10);
        let mut chosen: Vec<&Column> = self.partition();
        if !only_static {
            chosen.extend(self.clustering());
            chosen.extend(random.some(&self.of(|kind| kind == Kind::Regular)).into_iter().copied());
        }
        if only_static || random.chance(30) {
            chosen.extend(self.of(|kind| kind == Kind::Static));
        }
        let names: Vec<&str> = chosen.iter().map(|column| column.name.as_str()).collect();
        let values: Vec<String> = chosen
            .iter()
            .map(|column| match column.kind {
                Kind::Static | Kind::Regular if random.chance(8) => "null".to_owned(),
                _ => column.loose_value(random),
            })
            .collect();
        format!(
            "INSERT INTO {} ({}) VALUES ({}){using}",
            self.name,
            names.join(", "),
            values.join(", ")
        )
    }

    /// `a = 1 AND b = 2`, now and then with IN.
    fn key(&self, random: &mut Random, clustering: usize) -> Vec<String> {
        let key = self.clustering();
        let columns = self.partition().into_iter().chain(key.into_iter().take(clustering));
        columns
            .map(|column| {
                if random.chance(8) {
                    let values = (0..random.below(4)).map(|_| column.value(random));
                    format!("{} IN ({})", column.name, values.collect::<Vec<_>>().join(", "))
                } else {
                    format!("{} = {}", column.name, column.loose_value(random))
                }
            })
            .collect()
    }

    fn update(&self, random: &mut Random, using: &str) -> String {
        let changes_static = random.chance(20);
        let columns = self
            .of(|kind| if changes_static { kind == Kind::Static } else { kind == Kind::Regular });
        if columns.is_empty() {
            return self.insert(random, using);
        }
        let assignments: Vec<String> =
            random.some(&columns).into_iter().map(|column| assignment(column, random)).collect();
        let clustering = if changes_static { 0 } else { usize::MAX };
        format!(
            "UPDATE {}{using} SET {} WHERE {}",
            self.name,
            assignments.join(", "),
            self.key(random, clustering).join(" AND ")
        )
    }

    fn delete(&self, random: &mut Random, timestamp: &str) -> String {
        let using =
            if timestamp.is_empty() { String::new() } else { format!(" USING {timestamp}") };
        let clustering = self.clustering();
        let given =
            if random.chance(50) { clustering.len() } else { random.below(clustering.len() + 1) };
        let mut relations = self.key(random, given);
        let mut targets = String::new();
        if given < clustering.len() && random.chance(50) {
            relations.extend(super::query::slice(&clustering, given, random));
        } else if given == clustering.len() && random.chance(40) {
            let columns = self.of(|kind| kind == Kind::Regular);
            let targeted = if columns.is_empty() { Vec::new() } else { random.some(&columns) };
            let targeted: Vec<String> =
                targeted.into_iter().map(|column| target(column, random)).collect();
            targets = format!(" {}", targeted.join(", "));
        } else if given == 0 && random.chance(40) {
            let columns = self.of(|kind| kind == Kind::Static);
            let targeted = if columns.is_empty() { Vec::new() } else { random.some(&columns) };
            let targeted: Vec<String> =
                targeted.into_iter().map(|column| target(column, random)).collect();
            targets = format!(" {}", targeted.join(", "));
        }
        format!("DELETE{targets} FROM {}{using} WHERE {}", self.name, relations.join(" AND "))
    }
}

fn target(column: &Column, random: &mut Random) -> String {
    let name = &column.name;
    match &column.ty {
        Type::List(_) if random.chance(50) => format!("{name}[{}]", random.below(3)),
        Type::Set(key) | Type::Map(key, _) if random.chance(50) => {
            format!("{name}[{}]", key.literal(random))
        }
        Type::User("address") if random.chance(50) => format!("{name}.street"),
        _ => name.clone(),
    }
}

fn assignment(column: &Column, random: &mut Random) -> String {
    let name = &column.name;
    let value = column.loose_value(random);
    match (&column.ty, random.below(5)) {
        (_, 0) => format!("{name} = null"),
        (Type::List(_) | Type::Set(_) | Type::Map(..), 1) => format!("{name} = {name} + {value}"),
        (Type::List(_), 2) => format!("{name} = {value} + {name}"),
        (Type::List(_) | Type::Set(_), 3) => format!("{name} = {name} - {value}"),
        (Type::Map(key, _), 3) => format!("{name} = {name} - {{{}}}", key.literal(random)),
        (Type::List(element), 4) => {
            format!("{name}[{}] = {}", random.below(3), element.literal(random))
        }
        (Type::Map(key, content), 2 | 4) => {
            format!("{name}[{}] = {}", key.literal(random), content.literal(random))
        }
        (Type::User("address"), 1 | 2) => format!("{name}.number = {}", random.below(9)),
        _ => format!("{name} = {value}"),
    }
}
