//! A table for people, and JSON for programs.

use serde_json::json;

use crate::Options;
use crate::record::{Figures, Findings, Phase};
use crate::system::{Outbox, directory};

pub fn print(findings: &Findings) {
    println!("{:<12} {:>8} {:>30} {:>30}", "", "acks", "ack, ms", "delivery, ms");
    let names = format!("{:>10} {:>9} {:>9}", "p50", "p99", "max");
    println!("{:<12} {:>8} {names} {names}", "", "per s");
    let figures = |of: &Figures| format!("{:>10.2} {:>9.2} {:>9.2}", of.p50, of.p99, of.max);
    for Phase { name, acks_per_second, ack, delivery, .. } in &findings.phases {
        println!("{name:<12} {acks_per_second:>8.1} {} {}", figures(ack), figures(delivery));
    }
    let Outbox { retries, parked, drained, .. } = findings.outbox;
    let Findings { delivered, limit, acked, lost, repeated, out_of_order, refused, unanswered, closed, .. } = findings;
    println!("\nafter Redis' return:");
    println!("  {delivered:.2} s until everything sent before it had reached every member");
    match findings.normal {
        Some(normal) => println!("  {normal:.2} s until delivery was normal (within {limit:.1} ms)"),
        None => println!("  delivery was not normal (within {limit:.1} ms) by the end"),
    }
    println!("  {drained:.2} s until every row written before it was published; {retries} retries, {parked} parked");
    println!("{acked} messages acknowledged: {lost} lost, {repeated} repeated, {out_of_order} out of order");
    println!("{refused} refused, {unanswered} unanswered, {closed} sockets closed");
}

pub fn write(options: &Options, postgres: &str, load_at_start: Option<String>, findings: &Findings) {
    let figures = |of: &Figures| json!({ "p50": of.p50, "p99": of.p99, "max": of.max });
    let phase = |of: &Phase| {
        json!({
            "phase": of.name, "seconds": of.seconds, "acks_per_second": of.acks_per_second,
            "ack_ms": figures(&of.ack), "delivery_to_the_other_gateway_ms": figures(&of.delivery),
        })
    };
    let Outbox { pending, retries, parked, drained, .. } = findings.outbox;
    let report = json!({
        "conditions": {
            "messages_per_second": options.rate, "conversations": options.conversations,
            "outage_seconds": options.outage_seconds, "gateways": 2, "workers": 2, "postgresql": postgres,
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
            "load_average": { "start": load_at_start, "end": load_average() },
        },
        "phases": findings.phases.iter().map(phase).collect::<Vec<_>>(),
        "seconds_after_return": { "delivered": findings.delivered, "normal": findings.normal, "published": drained },
        "normal_within_ms": findings.limit,
        "outbox": { "retries": retries, "parked": parked, "pending": pending },
        "messages": {
            "acknowledged": findings.acked, "lost": findings.lost, "repeated": findings.repeated,
            "out_of_order": findings.out_of_order, "refused": findings.refused, "unanswered": findings.unanswered,
        },
        "sockets_closed": findings.closed,
    });
    let path = directory().join("outage.json");
    std::fs::write(&path, format!("{report:#}\n")).unwrap();
    println!("{}", path.display());
}

/// What else the machine does; none where that cannot be told.
pub fn load_average() -> Option<String> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    Some(text.split(' ').take(3).collect::<Vec<_>>().join(" "))
}
