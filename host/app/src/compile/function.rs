//! Measures one function of a core module.
//!
//! For each local, the compiler finds the value that each block has of it. So a function of a few
//! kilobytes can cost the product of its locals and its blocks.

use wasmparser::{BinaryReaderError, BlockType, FunctionBody, Operator};

use super::limits::{CompileLimits, MeasureError, at_most};

/// The types that the functions of a core module refer to.
#[derive(Default)]
pub(super) struct Signatures {
    /// The number of parameters and results of each type; 0 if it is no function type.
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

/// The locals of the current function that live longer than a block.
///
/// All functions of a module share one value of this type, so that a function with many locals
/// takes time proportional to its bytes only.
#[derive(Default)]
pub(super) struct Locals {
    /// The basic block in which each local was last accessed.
    seen: Vec<u64>,
    /// The function in which each local was last found to live longer than a block.
    long: Vec<u64>,
    block: u64,
    function: u64,
    count: u64,
}

impl Locals {
    /// Starts a function with this number of locals.
    fn begin(&mut self, locals: u64) {
        let locals = usize::try_from(locals).unwrap_or(usize::MAX);
        if self.seen.len() < locals {
            self.seen.resize(locals, 0);
            self.long.resize(locals, 0);
        }
        self.block += 1;
        self.function += 1;
        self.count = 0;
    }

    /// Notes an access. A local that a basic block reads before writing has its value from
    /// another block.
    fn access(&mut self, local: u32, reads: bool) {
        let at = usize::try_from(local).unwrap_or(usize::MAX);
        let (Some(seen), Some(long)) = (self.seen.get_mut(at), self.long.get_mut(at)) else {
            return;
        };
        let first = std::mem::replace(seen, self.block) != self.block;
        if first && reads && std::mem::replace(long, self.function) != self.function {
            self.count += 1;
        }
    }
}

/// Checks the size, the locals and the values of function `index`.
pub(super) fn check(
    body: &FunctionBody<'_>,
    index: u32,
    signatures: &Signatures,
    known: &mut Locals,
    limits: &CompileLimits,
) -> Result<(), MeasureError> {
    let bytes = body.as_bytes().len() as u64;
    at_most("function-bytes", limits.function_bytes, bytes, || {
        format!("core function {index} has {bytes} bytes")
    })?;
    // Parameters and results.
    let mut locals = signatures.of_function(index);
    for declared in body.get_locals_reader()? {
        let (count, _) = declared?;
        locals += u64::from(count);
    }
    at_most("locals", limits.locals, locals, || {
        format!("core function {index} has {locals} locals")
    })?;
    known.begin(locals);
    let values = values(body, signatures, known)?;
    at_most("function-values", limits.function_values, values, || {
        format!("core function {index} passes {values} values from block to block")
    })
}

/// Returns an upper bound of the values that go from block to block.
fn values(
    body: &FunctionBody<'_>,
    signatures: &Signatures,
    locals: &mut Locals,
) -> Result<u64, BinaryReaderError> {
    let mut values = 0_u64;
    let mut blocks = 1_u64;
    let mut branches = 1_u64;
    // The most values that a branch carries: no more than any block takes or returns.
    let mut carried = 0;
    let mut operators = body.get_operators_reader()?;
    while !operators.eof() {
        let mut block = |ty| {
            let arity = signatures.of_block(ty);
            carried = carried.max(arity);
            blocks += 1;
            arity
        };
        let (in_line, add) = match operators.read()? {
            Operator::LocalGet { local_index } => {
                locals.access(local_index, true);
                (true, 0)
            }
            Operator::LocalSet { local_index } | Operator::LocalTee { local_index } => {
                locals.access(local_index, false);
                (true, 0)
            }
            Operator::Block { blockty } | Operator::Loop { blockty } | Operator::If { blockty } => {
                (false, block(blockty))
            }
            Operator::TryTable { try_table } => {
                branches += try_table.catches.len() as u64;
                (false, block(try_table.ty))
            }
            Operator::Else => {
                blocks += 1;
                (false, 0)
            }
            Operator::End => (false, 0),
            Operator::Br { .. }
            | Operator::BrIf { .. }
            | Operator::BrOnNull { .. }
            | Operator::BrOnNonNull { .. }
            | Operator::BrOnCast { .. }
            | Operator::BrOnCastFail { .. }
            | Operator::Return => {
                branches += 1;
                (false, 0)
            }
            Operator::BrTable { targets } => {
                branches += u64::from(targets.len()) + 1;
                (false, 0)
            }
            Operator::Call { function_index } | Operator::ReturnCall { function_index } => {
                (true, signatures.of_function(function_index))
            }
            Operator::CallIndirect { type_index, .. }
            | Operator::ReturnCallIndirect { type_index, .. }
            | Operator::CallRef { type_index }
            | Operator::ReturnCallRef { type_index } => (true, signatures.of_type(type_index)),
            _ => (true, 0),
        };
        locals.block += u64::from(!in_line);
        values = values.saturating_add(add);
    }
    let at_blocks = locals.count.saturating_mul(blocks);
    let by_branches = carried.saturating_mul(branches);
    Ok(values.saturating_add(at_blocks).saturating_add(by_branches))
}
