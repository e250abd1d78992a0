//! Refuses code whose compilation would exhaust the memory of the process.

use wasmparser::{CompositeInnerType, FunctionBody, Operator, Parser, Payload, Result};

/// The most blocks of one function, times its locals and parameters. The compiler keeps about 110 bytes for each local
/// in each block: with Cranelift 0.135, 120,000 branches over 2,000 locals (2 MB of WebAssembly) ask for 26 GB, and the
/// process aborts. The largest functions of a Python and of a JavaScript plugin, whose interpreters are in them, have
/// 180,000 and 150,000.
const MAX_LOCALS_TIMES_BLOCKS: u64 = 4_000_000;

/// Checks every function of a module or component. Code that cannot be read is left to validation, which refuses it.
pub(crate) fn check(wasm: &[u8]) -> std::result::Result<(), String> {
    let largest = largest_function(wasm).unwrap_or_default();
    if largest.locals.saturating_mul(largest.blocks) <= MAX_LOCALS_TIMES_BLOCKS {
        return Ok(());
    }
    let Function { locals, blocks } = largest;
    Err(format!(
        "a function has {locals} locals and {blocks} blocks, and compiling it would take too much memory; split it"
    ))
}

/// What the memory for compiling a function depends on.
#[derive(Debug, Default, Clone, Copy)]
struct Function {
    /// Locals and parameters.
    locals: u64,
    blocks: u64,
}

fn largest_function(wasm: &[u8]) -> Result<Function> {
    let mut largest = Function::default();
    let (mut parameters, mut types) = (Vec::new(), Vec::new().into_iter());
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::Version { .. } => (parameters, types) = (Vec::new(), Vec::new().into_iter()),
            Payload::TypeSection(section) => {
                for group in section {
                    parameters.extend(group?.types().map(|of| match &of.composite_type.inner {
                        CompositeInnerType::Func(function) => function.params().len() as u64,
                        _ => 0,
                    }));
                }
            }
            Payload::FunctionSection(section) => types = section.into_iter().collect::<Result<Vec<u32>>>()?.into_iter(),
            Payload::CodeSectionEntry(body) => {
                let of_type = types.next().and_then(|of_type| parameters.get(of_type as usize)).copied();
                let function = function(&body, of_type.unwrap_or_default())?;
                if function.locals.saturating_mul(function.blocks) > largest.locals.saturating_mul(largest.blocks) {
                    largest = function;
                }
            }
            _ => {}
        }
    }
    Ok(largest)
}

fn function(body: &FunctionBody<'_>, parameters: u64) -> Result<Function> {
    let mut function = Function { locals: parameters, blocks: 1 };
    for group in body.get_locals_reader()? {
        function.locals = function.locals.saturating_add(group?.0.into());
    }
    for operator in body.get_operators_reader()? {
        function.blocks += match operator? {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } | Operator::Else => 1,
            Operator::Br { .. } | Operator::BrIf { .. } | Operator::Return | Operator::Unreachable => 1,
            Operator::BrTable { targets } => u64::from(targets.len()) + 1,
            _ => 0,
        };
    }
    Ok(function)
}

#[cfg(test)]
mod tests {
    use wasm_encoder::{CodeSection, Function, FunctionSection, Instruction, Module, TypeSection, ValType};

    use super::*;

    /// A module with one function.
    fn module(parameters: usize, locals: u32, branches: usize) -> Vec<u8> {
        let (mut types, mut functions, mut code) = (TypeSection::new(), FunctionSection::new(), CodeSection::new());
        types.ty().function(vec![ValType::I32; parameters], []);
        functions.function(0);
        let mut function = Function::new([(locals, ValType::I32)]);
        for _ in 0..branches {
            function.instruction(&Instruction::I32Const(0)).instruction(&Instruction::BrIf(0));
        }
        code.function(function.instruction(&Instruction::End));
        let mut module = Module::new();
        module.section(&types).section(&functions).section(&code);
        module.finish()
    }

    #[test]
    fn what_would_take_gigabytes_to_compile_is_refused() {
        assert_eq!(check(&module(3, 100, 10_000)), Ok(()));
        for bomb in [module(0, 2_000, 120_000), module(1_000, 0, 120_000), module(0, 50_000, 1_000)] {
            let refused = check(&bomb).err().unwrap_or_default();
            assert!(refused.starts_with("a function has "), "{refused}");
        }
    }

    #[test]
    fn damaged_code_is_left_to_validation() {
        let whole = module(0, 2_000, 120_000);
        assert_eq!(check(&whole[..1_000]), Ok(()));
        assert_eq!(check(b"\0asm"), Ok(()));
    }
}
