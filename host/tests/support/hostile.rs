//! Everything that a hostile plugin may try, as one list: files that must not be loaded, and deeds that must harm one
//! message.

use wit_component::ComponentEncoder;

/// Something that the plugin `misbehaving` does with each message when its configuration says so.
pub(crate) struct Deed {
    pub(crate) name: &'static str,
    /// What it is told to do.
    pub(crate) filter: &'static str,
    /// What stands under it in `plugins.toml`.
    pub(crate) settings: &'static str,
    /// What must become of a message.
    pub(crate) outcome: &'static str,
    /// How its failure must begin, if it is one.
    pub(crate) failure: Option<&'static str>,
}

const PATIENT: &str = "[plugin.limits]\ndeadline_ms = 10000\n";

const fn deed(name: &'static str, filter: &'static str, settings: &'static str, failure: &'static str) -> Deed {
    Deed { name, filter, settings, outcome: "failed", failure: Some(failure) }
}

const fn harmless(name: &'static str, filter: &'static str, outcome: &'static str) -> Deed {
    Deed { name, filter, settings: PATIENT, outcome, failure: None }
}

pub(crate) const DEEDS: &[Deed] = &[
    deed("endless loop", "loop", "[plugin.limits]\ndeadline_ms = 20\n", "deadline: "),
    deed("recursion", "recurse", PATIENT, ""),
    deed("memory bomb", "memory", PATIENT, "memory: it wants "),
    deed("huge output", "replace-huge", "[plugin.limits]\ndeadline_ms = 10000\nmemory_mib = 64\n", "output: "),
    deed("text that is no text", "bad-text", PATIENT, "abi: "),
    deed("a code that is no token", "reject-odd", PATIENT, "invalid_verdict: "),
    deed("a body that is none", "replace-garbage", PATIENT, "invalid_replacement: "),
    deed("a flood of annotations", "annotate-flood", PATIENT, "invalid_verdict: "),
    deed("panic after a log flood", "log-flood-panic", PATIENT, "trap: "),
    harmless("log flood", "log-flood", "stored"),
    harmless("forged log lines", "log-forge", "stored"),
    harmless("a reason with forged lines", "reject-long", "rejected"),
    harmless("a slow leak", "drip", "stored"),
    harmless("trap on the seventh call", "seventh", "stored"),
];

/// A file that must be refused.
pub(crate) struct File {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    /// What the refusal must say.
    pub(crate) says: &'static str,
}

/// Files made from a plugin that is well.
pub(crate) fn files(plugin: &[u8]) -> Vec<File> {
    let component = ComponentEncoder::default().module(plugin).unwrap().encode().unwrap();
    let file = |name, bytes, says| File { name, bytes, says };
    let noise = |header: &[u8]| -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(7);
        header.iter().copied().chain(std::iter::repeat_with(|| random.u8(..)).take(100_000)).collect()
    };
    vec![
        file("random bytes", noise(&[]), "the file is not WebAssembly"),
        file("random bytes called a module", noise(b"\0asm\x01\0\0\0"), "the module is no plugin"),
        file("random bytes called a component", noise(b"\0asm\x0d\0\x01\0"), "plugin x: "),
        file("a truncated module", plugin[..plugin.len() / 2].to_vec(), "the module is no plugin"),
        file("a truncated component", component[..component.len() / 2].to_vec(), "plugin x: "),
        file("a thousand imports", imports(1000), "which are not granted"),
        file("a file larger than the limit", vec![0; (64 << 20) + 1], "it is larger than 67108864 bytes"),
        file("a table that grows", with_start(plugin, GROW_TABLE), "does not start"),
        file("a start that never ends", with_start(plugin, b"\0\x03\x40\x0c\0\x0b\x0b"), "longer than its deadline"),
        file("a function of eight megabytes", with_start(plugin, &padded(8 << 20)), "the module is no plugin"),
        file("a compile bomb", with_start(plugin, &bomb()), "would take too much memory"),
    ]
}

/// `(loop (br_if 0 (i32.ne (table.grow (ref.null func) (i32.const 10000)) (i32.const -1)))) unreachable`
const GROW_TABLE: &[u8] = b"\0\x03\x40\xd0\x70\x41\x90\xce\0\xfc\x0f\0\x41\x7f\x47\x0d\0\x0b\0\x0b";

/// A body of so many `nop`s.
fn padded(length: usize) -> Vec<u8> {
    [&[0][..], &vec![1; length], &[0x0b]].concat()
}

/// Two megabytes of branches over thousands of live variables: little to read, much to compile.
fn bomb() -> Vec<u8> {
    // 2000 locals of type i32.
    let mut body = b"\x01\xd0\x0f\x7f".to_vec();
    for n in 0..120_000_u32 {
        // local.get n, if, local.get m, local.set n, end
        body.push(0x20);
        body.extend(leb(n % 2000));
        body.extend(b"\x04\x40\x20");
        body.extend(leb(n.wrapping_mul(7919) % 2000));
        body.push(0x21);
        body.extend(leb(n.wrapping_mul(104_729) % 2000));
        body.push(0x0b);
    }
    body.push(0x0b);
    body
}

/// A component that imports so many instances: `(import "a:b/cN@1.0.0" (instance))`.
fn imports(count: u32) -> Vec<u8> {
    let mut section = leb(count);
    for n in 0..count {
        let name = format!("a:b/c{n}@1.0.0");
        section.push(0);
        section.extend(leb(name.len() as u32));
        section.extend(name.as_bytes());
        section.extend(b"\x05\0");
    }
    [&b"\0asm\x0d\0\x01\0\x07\x03\x01\x42\0\x0a"[..], &leb(section.len() as u32), &section].concat()
}

/// A module with one more function, of this body, that runs when it starts; its table may grow without end.
fn with_start(module: &[u8], body: &[u8]) -> Vec<u8> {
    let imported = imported_functions(module);
    let (mut out, mut rest, mut function, mut kind) = (module[..8].to_vec(), &module[8..], 0, 0);
    while let Some((id, after)) = rest.split_first() {
        let (length, after) = number(after);
        let (content, next) = after.split_at(length as usize);
        let (count, entries) = number(content);
        let more = |entry: &[u8]| [&leb(count + 1), entries, entry].concat();
        let content = match id {
            1 => {
                kind = count;
                more(b"\x60\0\0")
            }
            3 => {
                function = imported + count;
                more(&leb(kind))
            }
            // One table, with its type and its least size.
            4 => [&[1, entries[0], 0], &leb(number(&entries[2..]).0)[..]].concat(),
            10 => more(&[&leb(body.len() as u32), body].concat()),
            _ => content.to_vec(),
        };
        section(&mut out, *id, &content);
        if *id == 7 {
            section(&mut out, 8, &leb(function));
        }
        rest = next;
    }
    out
}

fn section(out: &mut Vec<u8>, id: u8, content: &[u8]) {
    out.push(id);
    out.extend(leb(content.len() as u32));
    out.extend(content);
}

fn imported_functions(module: &[u8]) -> u32 {
    use wasmparser::{Parser, Payload, TypeRef};
    let imports = Parser::new(0).parse_all(module).find_map(|payload| match payload {
        Ok(Payload::ImportSection(imports)) => Some(imports),
        _ => None,
    });
    let functions = imports.into_iter().flat_map(|imports| imports.into_imports());
    functions.filter(|import| matches!(import, Ok(import) if matches!(import.ty, TypeRef::Func(_)))).count() as u32
}

fn leb(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn number(bytes: &[u8]) -> (u32, &[u8]) {
    let digits = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    let value = bytes[..digits].iter().rev().fold(0, |value, byte| value << 7 | u32::from(byte & 0x7f));
    (value, &bytes[digits..])
}
