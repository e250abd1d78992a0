//! Which module imports which, read from the sources: a circle cannot be understood, tested or cut out by parts.
//!
//! A module is a file. It imports what its paths lead to, those of `use` and those in code. A re-export is no import,
//! but whoever uses it imports what stands behind it. What is compiled for tests alone, or stands inside a macro's
//! braces, is not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;
use syn::visit::{self, Visit};
use syn::{Item, ItemUse, UseTree, Visibility};

/// Crates by the folder of their sources.
const CRATES: [&str; 6] =
    ["host/src", "host/protocol/src", "host/plugin-host/src", "worker/src", "worker/platform/src", "plugin-sdk/src"];

/// The path of a module from its crate's root.
type ModulePath = Vec<String>;

/// A module's file, read.
#[derive(Default)]
struct Module {
    /// What it defines by itself.
    defined: BTreeSet<String>,
    /// Names that it brings in, with where each leads.
    imported: BTreeMap<String, Vec<String>>,
    /// Paths that it follows.
    followed: Vec<Vec<String>>,
}

/// All modules of a crate.
struct Crate(BTreeMap<ModulePath, Module>);

impl Crate {
    fn read(source: &Path) -> Self {
        let mut modules = BTreeMap::new();
        for file in super::files(source, ".rs") {
            let relative = file.strip_prefix(source).unwrap().with_extension("");
            let mut path: ModulePath =
                relative.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
            if path.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main")) {
                path.pop();
            }
            // A binary beside a library sees it as any other crate does.
            if path.last().is_some_and(|last| last.ends_with("tests")) || file.ends_with("main.rs") {
                continue;
            }
            let syntax = syn::parse_file(&std::fs::read_to_string(&file).unwrap()).unwrap();
            let mut reader = Reader::default();
            reader.visit_file(&syntax);
            modules.insert(path, reader.module);
        }
        Self(modules)
    }

    /// The module in which a path that `from` follows ends; none if it leads out of the crate.
    fn resolve(&self, from: &ModulePath, path: &[String], depth: usize) -> Option<ModulePath> {
        let (first, mut rest) = path.split_first()?;
        let mut at = match first.as_str() {
            "crate" => Vec::new(),
            "self" => from.clone(),
            "super" => from[..from.len().checked_sub(1)?].to_vec(),
            _ => {
                rest = path;
                from.clone()
            }
        };
        let starts_here = !matches!(first.as_str(), "crate" | "self" | "super");
        for (index, name) in rest.iter().enumerate() {
            let mut child = at.clone();
            child.push(name.clone());
            let module = self.0.get(&at)?;
            if name == "super" {
                at.pop()?;
            } else if self.0.contains_key(&child) {
                at = child;
            } else if let (Some(imported), true) = (module.imported.get(name), depth < 8) {
                let further: Vec<String> = imported.iter().chain(&rest[index + 1..]).cloned().collect();
                return self.resolve(&at, &further, depth + 1);
            } else if module.defined.contains(name) || index > 0 || !starts_here {
                return Some(at);
            } else {
                return None;
            }
        }
        Some(at)
    }

    /// Each module with those that it imports.
    fn imports(&self) -> BTreeMap<String, BTreeSet<String>> {
        let name = |path: &ModulePath| if path.is_empty() { "lib".to_owned() } else { path.join("::") };
        let imports = self.0.iter().map(|(path, module)| {
            let targets = module.followed.iter().filter_map(|followed| self.resolve(path, followed, 0));
            (name(path), targets.filter(|target| target != path).map(|target| name(&target)).collect())
        });
        imports.collect()
    }
}

#[derive(Default)]
struct Reader {
    module: Module,
    /// Inside a module that stands in the same file, or a function: its names are not the file's.
    inner: usize,
}

impl<'s> Visit<'s> for Reader {
    fn visit_item(&mut self, item: &'s Item) {
        if attributes(item).iter().any(is_for_tests) {
            return;
        }
        if self.inner == 0
            && let Some(name) = defined(item)
        {
            self.module.defined.insert(name);
        }
        self.inner += usize::from(matches!(item, Item::Mod(_) | Item::Fn(_)));
        visit::visit_item(self, item);
        self.inner -= usize::from(matches!(item, Item::Mod(_) | Item::Fn(_)));
    }

    fn visit_item_use(&mut self, item: &'s ItemUse) {
        let mut leaves = Vec::new();
        collect(&item.tree, &mut Vec::new(), &mut leaves);
        let is_facade = !matches!(item.vis, Visibility::Inherited);
        for (name, path) in leaves {
            if !is_facade {
                self.module.followed.push(path.clone());
            }
            if self.inner == 0 {
                self.module.imported.insert(name, path);
            }
        }
    }

    /// Where something may be seen is no import.
    fn visit_vis_restricted(&mut self, _: &'s syn::VisRestricted) {}

    fn visit_path(&mut self, path: &'s syn::Path) {
        if path.segments.len() > 1 && path.leading_colon.is_none() {
            self.module.followed.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }
}

fn attributes(item: &Item) -> &[syn::Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_for_tests(attribute: &syn::Attribute) -> bool {
    let syn::Meta::List(list) = &attribute.meta else { return false };
    attribute.path().is_ident("cfg") && list.tokens.to_string() == "test"
}

fn defined(item: &Item) -> Option<String> {
    Some(match item {
        Item::Const(item) => item.ident.to_string(),
        Item::Enum(item) => item.ident.to_string(),
        Item::Fn(item) => item.sig.ident.to_string(),
        Item::Mod(item) if item.content.is_some() => item.ident.to_string(),
        Item::Static(item) => item.ident.to_string(),
        Item::Struct(item) => item.ident.to_string(),
        Item::Trait(item) => item.ident.to_string(),
        Item::Type(item) => item.ident.to_string(),
        _ => return None,
    })
}

/// The names that a `use` brings in, each with its path.
fn collect(tree: &UseTree, before: &mut Vec<String>, leaves: &mut Vec<(String, Vec<String>)>) {
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            collect(&path.tree, before, leaves);
            before.pop();
        }
        UseTree::Group(group) => group.items.iter().for_each(|tree| collect(tree, before, leaves)),
        UseTree::Name(name) if name.ident == "self" => {
            leaves.push((before.last().cloned().unwrap_or_default(), before.clone()));
        }
        UseTree::Name(name) => leaves.push((name.ident.to_string(), with(before, &name.ident.to_string()))),
        UseTree::Rename(rename) => {
            leaves.push((rename.rename.to_string(), with(before, &rename.ident.to_string())));
        }
        UseTree::Glob(_) => leaves.push(("*".to_owned(), before.clone())),
    }
}

fn with(before: &[String], name: &str) -> Vec<String> {
    before.iter().cloned().chain([name.to_owned()]).collect()
}

/// Groups of two or more that all reach one another.
fn circles(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<&str>> {
    let edges = imports.iter().flat_map(|(from, targets)| targets.iter().map(move |to| (from.as_str(), to.as_str())));
    let graph: DiGraphMap<&str, ()> = edges.collect();
    let mut circles: Vec<Vec<&str>> = tarjan_scc(&graph).into_iter().filter(|group| group.len() > 1).collect();
    circles.iter_mut().for_each(|group| group.sort_unstable());
    circles
}

/// The same for the folders (or single files) at a crate's root.
fn by_folder(imports: &BTreeMap<String, BTreeSet<String>>) -> BTreeMap<String, BTreeSet<String>> {
    let folder = |module: &str| module.split("::").next().unwrap_or_default().to_owned();
    let mut folders: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (from, targets) in imports {
        let targets = targets.iter().map(|to| folder(to)).filter(|to| *to != folder(from));
        folders.entry(folder(from)).or_default().extend(targets);
    }
    folders
}

/// What ties a circle: each import inside of it.
fn ties(imports: &BTreeMap<String, BTreeSet<String>>, circle: &[&str]) -> Vec<String> {
    let inside = |name: &str| circle.contains(&name);
    let edges = imports.iter().flat_map(|(from, targets)| targets.iter().map(move |to| (from, to)));
    edges.filter(|(from, to)| inside(from) && inside(to)).map(|(from, to)| format!("  {from} -> {to}")).collect()
}

#[test]
fn no_module_imports_itself_by_way_of_others() {
    let mut found = Vec::new();
    for source in CRATES {
        let imports = Crate::read(&super::root().join(source)).imports();
        for (kind, graph) in [("modules", &imports), ("folders", &by_folder(&imports))] {
            // The SDK's doubles for tests stand in a folder beside the types that they imitate, and are called by them.
            if source == "plugin-sdk/src" && kind == "folders" {
                continue;
            }
            for circle in circles(graph) {
                let ties = ties(graph, &circle).join("\n");
                found.push(format!("{source}, {kind}: {}\n{ties}", circle.join(", ")));
            }
        }
    }
    assert!(found.is_empty(), "import circles:\n{}", found.join("\n"));
}

#[test]
fn a_circle_would_be_found() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let read = || Crate::read(folder.path()).imports();
    write("lib.rs", "mod a; mod b; mod c; pub use a::A;");
    write("a.rs", "use crate::b::B; pub struct A(B);");
    write("b.rs", "pub struct B; #[cfg(test)] mod tests { use crate::A; }");
    write("c.rs", "fn c() -> crate::A { todo!() }");
    let imports = read();
    assert_eq!(imports["c"], BTreeSet::from(["a".to_owned()]), "behind the re-export");
    assert!(circles(&imports).is_empty());
    write("b.rs", "pub struct B; impl B { fn a() { super::c::c(); } }");
    assert_eq!(circles(&read()), [["a", "b", "c"]]);
}
