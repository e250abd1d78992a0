//! The order of plugins: by `order`, then as listed, changed only as far as `before` and `after` require. Pure.

use std::collections::{HashMap, HashSet};

use super::entry::Entry;

/// Sorts entries. Fails if `before` and `after` contradict each other or name an unknown plugin.
pub(super) fn sorted(mut entries: Vec<Entry>) -> Result<Vec<Entry>, String> {
    entries.sort_by_key(|entry| entry.position.order);
    let mut predecessors = predecessors(&entries)?;
    let mut ordered = Vec::with_capacity(entries.len());
    while !entries.is_empty() {
        let free = entries.iter().position(|entry| predecessors.get(&entry.name).is_none_or(HashSet::is_empty));
        let Some(next) = free.map(|index| entries.remove(index)) else {
            let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
            return Err(format!("`before` and `after` of {} contradict one another", names.join(", ")));
        };
        for waiting in predecessors.values_mut() {
            waiting.remove(&next.name);
        }
        ordered.push(next);
    }
    Ok(ordered)
}

/// For each plugin, the names of those that must come before it.
fn predecessors(entries: &[Entry]) -> Result<HashMap<String, HashSet<String>>, String> {
    let known: HashSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let mut predecessors: HashMap<String, HashSet<String>> = HashMap::new();
    for entry in entries {
        let after = entry.position.after.iter().map(|other| ("after", other, other, &entry.name));
        let before = entry.position.before.iter().map(|other| ("before", other, &entry.name, other));
        for (key, other, first, second) in after.chain(before) {
            if !known.contains(other.as_str()) {
                return Err(format!("plugin {}: `{key}` names {other:?}, and there is no such plugin", entry.name));
            }
            predecessors.entry(second.clone()).or_default().insert(first.clone());
        }
    }
    Ok(predecessors)
}
