//! A table for people, and JSON for programs.

use std::path::Path;

use serde_json::json;

use crate::Axis;

pub struct Table {
    pub axis: Axis,
    /// What is the same at every point.
    pub about: &'static str,
    pub columns: Vec<&'static str>,
    /// The point's name, and a value for each column; none where it was not measured.
    pub rows: Vec<(String, Vec<Option<f64>>)>,
}

impl Table {
    pub fn print(&self) {
        println!("{:?}: {}", self.axis, self.about);
        println!("| {:?} | {} |", self.axis, self.columns.join(" | "));
        println!("|---|{}", "---|".repeat(self.columns.len()));
        for (name, values) in &self.rows {
            let cells: Vec<String> = values.iter().map(|value| value.map_or("".to_owned(), digits)).collect();
            println!("| {name} | {} |", cells.join(" | "));
        }
        println!();
    }
}

/// As many digits as say something.
fn digits(value: f64) -> String {
    let digits = match value {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

pub fn write(tables: &[Table]) {
    let one = |table: &Table| {
        let points = table.rows.iter().map(|(name, values)| {
            let values = table.columns.iter().zip(values).map(|(column, value)| ((*column).to_owned(), json!(value)));
            json!({ "point": name, "values": values.collect::<serde_json::Map<_, _>>() })
        });
        json!({ "axis": format!("{:?}", table.axis), "about": table.about, "points": points.collect::<Vec<_>>() })
    };
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let report = json!({
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "load_average_at_the_end": load.split(' ').take(3).collect::<Vec<_>>().join(" "),
        "axes": tables.iter().map(one).collect::<Vec<_>>(),
    });
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench-scale.json");
    std::fs::write(&path, format!("{report:#}\n")).unwrap();
    println!("{}", path.display());
}
