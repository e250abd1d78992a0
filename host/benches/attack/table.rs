//! A table for people.

use crate::bystander::Noticed;
use crate::scene::Resident;

/// An attack and what came of it.
pub struct Row {
    pub attack: String,
    pub tried: String,
    pub got: String,
    pub memory: Resident,
    pub noticed: Noticed,
}

/// In Markdown.
pub fn print(rows: &[Row]) {
    println!(
        "\n| attack | what was tried | what the attacker got | bystander's ack, p50 / p99 | messages refused / lost \
         | newcomers turned away | gateway's memory before / peak | health answered within |\n\
         |---|---|---|---|---|---|---|---|"
    );
    for Row { attack, tried, got, memory, noticed } in rows {
        let mb = |bytes: f64| bytes / f64::from(1 << 20);
        println!(
            "| {attack} | {tried} | {got} | {} | {} / {} of {} | {} of {} | {:.0} / {:.0} MiB | {} ms |",
            acks(noticed),
            noticed.refused,
            noticed.lost,
            noticed.said,
            noticed.turned_away,
            noticed.newcomers,
            mb(memory.before),
            mb(memory.peak),
            noticed.health.as_millis(),
        );
    }
}

/// Fewer acknowledgements have no percentiles.
const FEWEST: usize = 20;

fn acks(noticed: &Noticed) -> String {
    let mut acks = noticed.acks.clone();
    if acks.len() < FEWEST { "–".to_owned() } else { format!("{:.1} / {:.1} ms", acks.at(0.5), acks.at(0.99)) }
}
