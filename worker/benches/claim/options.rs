//! What the command line says.

use clap::Parser;

#[derive(Parser)]
pub struct Options {
    /// Rows per second
    #[arg(long, default_value_t = 1000)]
    pub rate: u32,
    /// Processed rows that are in the table before each phase
    #[arg(long, value_delimiter = ',', default_value = "0,1000000,5000000")]
    pub rows: Vec<u64>,
    /// Duration of each of these phases
    #[arg(long, default_value_t = 30)]
    pub seconds: u64,
    /// How long a transaction is held open, with the last of these tables
    #[arg(long, default_value_t = 300)]
    pub hold_seconds: u64,
    /// How long the load continues after that transaction has ended
    #[arg(long, default_value_t = 60)]
    pub recovery_seconds: u64,
    /// Interval between figures while the transaction is open, and after it
    #[arg(long, default_value_t = 30)]
    pub interval_seconds: u64,
    #[arg(long, default_value_t = 2)]
    pub workers: usize,
    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    pub bench: bool,
}
