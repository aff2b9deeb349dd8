//! Random statements, the same for two servers: schemas, data, changes and queries from one seed.
//!
//! Data has explicit timestamps from a small range, so that ties between cells are common and come
//! out the same; times to live are large and all different. What follows the clock (`now()`, `ttl`)
//! is left out.

mod query;
mod table;
mod value;

use crate::{Client, Result, Server, script::whole_answer};

use table::Table;

/// Statements between CREATE TABLE and DROP TABLE.
const STATEMENTS_PER_TABLE: usize = 250;
/// Differences after which a table is left.
const DIFFERENCES_PER_TABLE: usize = 3;
const KEYSPACE: &str = "random_differential";

/// A sequence of numbers that depends only on its seed (splitmix64).
pub struct Random(u64);

impl Random {
    /// A sequence of its own for each seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `count`; 0 when there is nothing to choose from.
    #[must_use]
    pub fn below(&mut self, count: usize) -> usize {
        let count = u64::try_from(count).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % count).unwrap_or(0)
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<'t, T>(&mut self, items: &'t [T]) -> &'t T {
        items.get(self.below(items.len())).unwrap_or_else(|| unreachable!("a choice from nothing"))
    }

    /// Some of the items, in their order; at least one.
    fn some<'t, T>(&mut self, items: &'t [T]) -> Vec<&'t T> {
        let keep = 20 + self.below(80);
        let mut chosen: Vec<&T> = items.iter().filter(|_| self.chance(keep)).collect();
        if chosen.is_empty() && !items.is_empty() {
            chosen.push(self.pick(items));
        }
        chosen
    }
}

/// A statement that two servers answered differently.
pub struct Difference {
    /// What the table was.
    pub schema: String,
    /// All statements since the table was made.
    pub before: Vec<String>,
    /// The statement, with its page size.
    pub statement: String,
    /// Our answer.
    pub ours: String,
    /// The peer's answer.
    pub theirs: String,
}

/// Sends `count` statements of a seed to both servers and hands over each difference. Gives how many
/// were refused by both with one error code and two texts.
///
/// # Errors
/// When a server is gone.
pub fn run(
    node: &mut Server,
    peer: &mut Client,
    seed: u64,
    count: usize,
    report: &mut dyn FnMut(Difference),
) -> Result<usize> {
    let mut random = Random::new(seed);
    let mut ours = Client::connect(node.address())?;
    for client in [&mut ours, &mut *peer] {
        client.query(&format!("DROP KEYSPACE IF EXISTS {KEYSPACE}"))?;
        client.execute(&format!(
            "CREATE KEYSPACE {KEYSPACE} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
        ))?;
        client.execute(&format!("USE {KEYSPACE}"))?;
        for user_type in value::USER_TYPES {
            client.execute(user_type)?;
        }
    }
    let mut done = 0;
    let mut other_texts = 0;
    let mut number = 0;
    while done < count {
        number += 1;
        let mut table = Table::random(&mut random, &format!("t{number}"));
        let schema = table.create_statement();
        let mut statements = vec![(schema.clone(), None)];
        for _ in 0..STATEMENTS_PER_TABLE {
            statements.push(if random.chance(50) {
                (table.modification(&mut random), None)
            } else {
                let page =
                    random.chance(50).then(|| 1 + i32::try_from(random.below(7)).unwrap_or(0));
                (query::select(&table, &mut random), page)
            });
        }
        statements.push((format!("DROP TABLE {}", table.name), None));
        let restart_at = random.chance(20).then(|| random.below(STATEMENTS_PER_TABLE));
        let mut different = 0;
        for (place, (statement, page)) in statements.iter().enumerate() {
            // What differs once in the data differs in many answers.
            if different >= DIFFERENCES_PER_TABLE && place + 1 < statements.len() {
                continue;
            }
            if restart_at == Some(place) {
                node.kill()?;
                node.restart()?;
                ours = Client::connect(node.address())?;
                ours.execute(&format!("USE {KEYSPACE}"))?;
            }
            let our = comparable(&whole_answer(&mut ours, statement, *page)?);
            let their = comparable(&whole_answer(peer, statement, *page)?);
            if their.starts_with("error 0x0000") && our != their {
                // A fault of the peer; what it holds is not known.
                different = DIFFERENCES_PER_TABLE;
            } else if error_code(&our).is_some_and(|code| error_code(&their) == Some(code)) {
                // Of several things that are wrong each may name another.
                other_texts += usize::from(our != their);
            } else if our != their {
                different += 1;
                report(Difference {
                    schema: schema.clone(),
                    before: statements.iter().take(place).map(|(text, _)| text.clone()).collect(),
                    statement: page.map_or_else(
                        || statement.clone(),
                        |page| format!("{statement} -- page {page}"),
                    ),
                    ours: our,
                    theirs: their,
                });
            }
        }
        done += statements.len();
    }
    peer.execute(&format!("DROP KEYSPACE {KEYSPACE}"))?;
    Ok(other_texts)
}

/// `error 0x2200`, when the answer is an error.
fn error_code(answer: &str) -> Option<&str> {
    answer.split_once(':').map(|(code, _)| code).filter(|code| code.starts_with("error 0x"))
}

/// Cassandra lists the signatures of functions in the order of a hash map.
fn comparable(answer: &str) -> String {
    let lists = [", none of its type signatures match", "More than one restriction was found"];
    let before = lists.iter().find_map(|list| Some(answer.split_once(list)?.0));
    before.unwrap_or(answer).to_owned()
}
