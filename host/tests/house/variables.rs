//! The documentation has the variables that the programs list in `--help`, and no others, with the same defaults.

use std::collections::BTreeMap;

use arcyou_platform::env::{Variable, WhenUnset};

const PAGE: &str = include_str!("../../../docs/configuration.md");

/// The variables of a part of the page, each with its default, if its table has a column for that.
fn documented(from: &str, to: &str) -> BTreeMap<String, Option<String>> {
    let part = PAGE.split_once(from).unwrap().1.split_once(to).unwrap().0;
    let (mut found, mut has_defaults) = (BTreeMap::new(), false);
    for line in part.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if cells[1] == "variable" {
            has_defaults = cells[2] == "default";
        }
        let listed =
            |cell: &str| cell.split(',').map(|part| part.trim().trim_matches('`').to_owned()).collect::<Vec<_>>();
        if !cells[1].starts_with('`') {
            continue;
        }
        let names = listed(cells[1]);
        // Several in a row have a default each, or one for all.
        let defaults =
            if names.len() == listed(cells[2]).len() { listed(cells[2]) } else { vec![listed(cells[2]).join(",")] };
        for (index, name) in names.into_iter().enumerate() {
            let default = defaults.get(index).or(defaults.first()).filter(|_| has_defaults);
            assert_eq!(found.insert(name.clone(), default.cloned()), None, "{name} is described twice");
        }
    }
    found
}

fn compare(variables: &[Variable], mut documented: BTreeMap<String, Option<String>>) {
    for variable in variables {
        let Some(default) = documented.remove(variable.name) else {
            panic!("docs/configuration.md has no row for {}", variable.name);
        };
        let expected = match variable.default {
            WhenUnset::Value(value) => Some(value),
            WhenUnset::Required if default.is_some() => Some("required"),
            WhenUnset::Required | WhenUnset::Other(_) => None,
        };
        if expected.is_some() {
            assert_eq!(default.as_deref(), expected, "the default of {}", variable.name);
        }
    }
    assert!(documented.is_empty(), "docs/configuration.md has rows for what nothing reads: {documented:?}");
}

#[test]
fn the_page_on_configuration_has_every_variable_and_its_default() {
    compare(arcyou_gateway::config::VARIABLES, documented("## Gateway", "## Worker"));
    compare(arcyou_outbox_worker::VARIABLES, documented("## Worker", "## Database and Redis URLs"));
}
