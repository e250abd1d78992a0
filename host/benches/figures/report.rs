//! A table for people, and JSON for programs.

use std::path::Path;

use serde_json::json;

/// One line of the table.
pub struct Figure {
    pub name: &'static str,
    pub unit: &'static str,
    /// What it is measured against.
    pub ceiling: &'static str,
    /// What else is busy on the machine while the product is measured.
    pub shares: &'static str,
    pub goal: Goal,
    pub rounds: Vec<Round>,
    /// What else was seen.
    pub notes: Vec<String>,
}

/// What one round measured.
#[derive(Clone, Copy)]
pub struct Round {
    pub product: f64,
    pub ceiling: f64,
}

#[derive(Clone, Copy)]
pub enum Goal {
    /// The product's share of its ceiling.
    AtLeast(f64),
    /// The product's multiple of its floor.
    AtMost(f64),
    /// The product itself, whatever the ceiling.
    Within(f64),
}

impl Goal {
    fn text(self) -> String {
        match self {
            Self::AtLeast(ratio) => format!(">= {ratio} x"),
            Self::AtMost(ratio) => format!("<= {ratio} x"),
            Self::Within(most) => format!("<= {most}"),
        }
    }

    fn is_reached(self, ratio: f64, product: f64) -> bool {
        match self {
            Self::AtLeast(least) => ratio >= least,
            Self::AtMost(most) => ratio <= most,
            Self::Within(most) => product <= most,
        }
    }
}

impl Figure {
    fn of(&self, what: impl Fn(&Round) -> f64) -> [f64; 3] {
        let mut values: Vec<f64> = self.rounds.iter().map(what).collect();
        values.sort_by(f64::total_cmp);
        [values[values.len() / 2], values[0], values[values.len() - 1]]
    }

    fn product(&self) -> [f64; 3] {
        self.of(|round| round.product)
    }

    fn ceiling_measured(&self) -> [f64; 3] {
        self.of(|round| round.ceiling)
    }

    fn ratio(&self) -> [f64; 3] {
        self.of(|round| round.product / round.ceiling)
    }

    fn is_reached(&self) -> bool {
        self.goal.is_reached(self.ratio()[0], self.product()[0])
    }
}

/// The middle and the extremes, with as many digits as say something.
fn spread([middle, least, most]: [f64; 3]) -> String {
    let digits = match middle {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{middle:.digits$} ({least:.digits$}-{most:.digits$})")
}

/// One figure as soon as it is there, with all that was seen.
pub fn print_one(figure: &Figure) {
    println!("{}, {}", figure.name, figure.unit);
    println!("    product   {}   beside {}", spread(figure.product()), figure.shares);
    println!("    ceiling   {}   {}", spread(figure.ceiling_measured()), figure.ceiling);
    let reached = if figure.is_reached() { "reached" } else { "NOT REACHED" };
    println!("    ratio     {}   to reach {}: {reached}", spread(figure.ratio()), figure.goal.text());
    figure.notes.iter().for_each(|note| println!("    {note}"));
    println!();
}

pub fn print(figures: &[Figure]) {
    println!("| figure | unit | product | ceiling | ratio | to reach | |\n|---|---|---|---|---|---|---|");
    for figure in figures {
        let Figure { name, unit, goal, .. } = figure;
        let (product, ceiling, ratio) = (figure.product(), figure.ceiling_measured(), figure.ratio());
        let reached = if figure.is_reached() { "yes" } else { "no" };
        println!(
            "| {name} | {unit} | {} | {} | {} | {} | {reached} |",
            spread(product),
            spread(ceiling),
            spread(ratio),
            goal.text()
        );
    }
    println!("\nmedian (least-most) of the rounds");
}

pub fn write(figures: &[Figure], rounds: usize, load_at_start: Option<String>) {
    let values = |[middle, least, most]: [f64; 3]| json!({ "median": middle, "least": least, "most": most });
    let one = |figure: &Figure| {
        json!({
            "figure": figure.name, "unit": figure.unit, "ceiling_is": figure.ceiling, "beside": figure.shares,
            "product": values(figure.product()), "ceiling": values(figure.ceiling_measured()),
            "ratio": values(figure.ratio()), "to_reach": figure.goal.text(), "reached": figure.is_reached(),
            "rounds": figure.rounds.iter().map(|round| [round.product, round.ceiling]).collect::<Vec<_>>(),
            "notes": figure.notes,
        })
    };
    let report = json!({
        "conditions": {
            "rounds": rounds, "cores": std::thread::available_parallelism().map_or(0, usize::from),
            "load_average": { "start": load_at_start, "end": load_average() },
        },
        "figures": figures.iter().map(one).collect::<Vec<_>>(),
    });
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench.json");
    std::fs::write(&path, format!("{report:#}\n")).unwrap();
    println!("{}", path.display());
}

/// What else the machine does; none where that cannot be told.
pub fn load_average() -> Option<String> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    Some(text.split(' ').take(3).collect::<Vec<_>>().join(" "))
}
