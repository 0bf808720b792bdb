//! Measures one function of a core module.

use wasmparser::{BinaryReaderError, BlockType, FunctionBody, Operator};

use super::limits::{CompileLimits, TooLarge};
use super::measure::Refused;

/// What the functions of a core module refer to.
#[derive(Default)]
pub(super) struct Signatures {
    /// How many parameters and results each type has; 0 if it is no function's.
    pub(super) types: Vec<u64>,
    /// The index of each function's type; imported functions come first.
    pub(super) functions: Vec<u32>,
}

impl Signatures {
    fn of_type(&self, index: u32) -> u64 {
        let size = usize::try_from(index)
            .ok()
            .and_then(|index| self.types.get(index));
        size.copied().unwrap_or_default()
    }

    pub(super) fn of_function(&self, index: u32) -> u64 {
        let ty = usize::try_from(index)
            .ok()
            .and_then(|index| self.functions.get(index));
        ty.map_or(0, |ty| self.of_type(*ty))
    }

    fn of_block(&self, ty: BlockType) -> u64 {
        match ty {
            BlockType::Empty => 0,
            BlockType::Type(_) => 1,
            BlockType::FuncType(index) => self.of_type(index),
        }
    }
}

/// Checks the size, the locals and the values of function `index`.
///
/// The compiler finds out, for each local, where each block has it from. So a
/// function of a few kilobytes can cost the product of its locals and its blocks.
pub(super) fn check(
    body: &FunctionBody<'_>,
    index: u32,
    signatures: &Signatures,
    limits: &CompileLimits,
) -> Result<(), Refused> {
    let too_large = |limit, what: String, most| Refused::from(TooLarge { limit, what, most });
    let bytes = body.as_bytes().len() as u64;
    if bytes > limits.function_bytes {
        return Err(too_large(
            "function-bytes",
            format!("core function {index} has {bytes} bytes"),
            limits.function_bytes,
        ));
    }
    // Parameters and results.
    let mut locals = signatures.of_function(index);
    for declared in body.get_locals_reader()? {
        let (count, _) = declared?;
        locals += u64::from(count);
    }
    if locals > limits.locals {
        return Err(too_large(
            "locals",
            format!("core function {index} has {locals} locals"),
            limits.locals,
        ));
    }
    let values = values(body, locals, signatures)?;
    if values > limits.function_values {
        return Err(too_large(
            "function-values",
            format!("core function {index} hands {values} values from block to block"),
            limits.function_values,
        ));
    }
    Ok(())
}

/// Counts the values that go from block to block, at most.
fn values(
    body: &FunctionBody<'_>,
    locals: u64,
    signatures: &Signatures,
) -> Result<u64, BinaryReaderError> {
    let mut values = 0_u64;
    let mut branches = 1_u64;
    // How many values a branch carries, at most: no more than any block takes or gives.
    let mut carried = 0;
    let mut operators = body.get_operators_reader()?;
    while !operators.eof() {
        let add = match operators.read()? {
            Operator::Block { blockty } | Operator::Loop { blockty } | Operator::If { blockty } => {
                let arity = signatures.of_block(blockty);
                carried = carried.max(arity);
                locals + arity
            }
            Operator::TryTable { try_table } => {
                let arity = signatures.of_block(try_table.ty);
                carried = carried.max(arity);
                branches += try_table.catches.len() as u64;
                locals + arity
            }
            Operator::Else => locals,
            Operator::Br { .. }
            | Operator::BrIf { .. }
            | Operator::BrOnNull { .. }
            | Operator::BrOnNonNull { .. }
            | Operator::BrOnCast { .. }
            | Operator::BrOnCastFail { .. }
            | Operator::Return => {
                branches += 1;
                0
            }
            Operator::BrTable { targets } => {
                branches += u64::from(targets.len()) + 1;
                0
            }
            Operator::Call { function_index } | Operator::ReturnCall { function_index } => {
                signatures.of_function(function_index)
            }
            Operator::CallIndirect { type_index, .. }
            | Operator::ReturnCallIndirect { type_index, .. }
            | Operator::CallRef { type_index }
            | Operator::ReturnCallRef { type_index } => signatures.of_type(type_index),
            _ => 0,
        };
        values = values.saturating_add(add);
    }
    Ok(values.saturating_add(branches.saturating_mul(carried)))
}
