//! Bytes in, no panic: what strangers and operators hand to a gateway, damaged in every way that proptest thinks of.
//!
//! `make test` tries a few hundred of each; `FUZZ_CASES=50000 make fuzz` as many as you like. An input that breaks
//! something is made small, printed, and kept in `proptest-regressions`, to be tried first from then on.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod damage;
mod frames;
mod odd_modules;
mod plugins_dir;
#[path = "../support/mod.rs"]
mod support;
mod tokens;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Instant;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestRunner};

/// Of an input that costs microseconds; `FUZZ_CASES` sets another.
const CASES: u32 = 256;

/// Tries `property` on many `inputs`, and prints how often it answered what. One input in `cost` costs as much as a
/// cheap one; `source` is the file that regressions are kept for.
fn fuzz<S: Strategy>(
    source: &'static str,
    name: &'static str,
    cost: u32,
    inputs: &S,
    property: impl Fn(S::Value) -> &'static str,
) {
    let cases = std::env::var("FUZZ_CASES").map_or(CASES, |text| text.parse().expect("FUZZ_CASES is a number"));
    let cases = cases.div_ceil(cost);
    let config = Config { cases, source_file: Some(source), test_name: Some(name), ..Config::default() };
    let (answers, started) = (RefCell::new(BTreeMap::<_, u32>::new()), Instant::now());
    let outcome = TestRunner::new(config).run(inputs, |input| {
        *answers.borrow_mut().entry(property(input)).or_default() += 1;
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{name}: {error}");
    }
    let answers: Vec<String> = answers.into_inner().iter().map(|(answer, count)| format!("{answer} {count}")).collect();
    println!("{name}: {cases} in {:.1?}: {}", started.elapsed(), answers.join(", "));
}
