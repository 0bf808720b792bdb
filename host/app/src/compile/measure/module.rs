//! The sections of a core module, one after the other.

use wasmparser::{
    BinaryReaderError, CompositeInnerType, DataSectionReader, ElementItems, ElementKind,
    ElementSectionReader, FunctionSectionReader, ImportSectionReader, MemorySectionReader,
    TableSectionReader, TypeRef, TypeSectionReader,
};

use crate::compile::function::{Locals, Signatures};
use crate::compile::limits::CompileLimits;
use crate::compile::totals::Core;

/// A core module that is being read.
#[derive(Default)]
pub(super) struct Module {
    pub(super) core: Core,
    pub(super) signatures: Signatures,
    pub(super) locals: Locals,
    /// The index of the next function that has a body.
    pub(super) next: u32,
}

impl Module {
    /// Reads types, and returns their number, as far as the limit `types` allows.
    pub(super) fn types(
        &mut self,
        section: TypeSectionReader<'_>,
        limits: &CompileLimits,
    ) -> Result<u64, BinaryReaderError> {
        let mut types = 0;
        for group in section {
            for ty in group?.types() {
                types += 1;
                self.signatures.types.push(match ty.composite_type.inner {
                    CompositeInnerType::Func(ref ty) => {
                        (ty.params().len() + ty.results().len()) as u64
                    }
                    _ => 0,
                });
            }
            // Checked here too, because a group can be repeated cheaply.
            if types > limits.types {
                break;
            }
        }
        Ok(types)
    }

    /// Reads imports, and returns their number.
    pub(super) fn imports(
        &mut self,
        section: ImportSectionReader<'_>,
    ) -> Result<u64, BinaryReaderError> {
        let mut imports = 0;
        for import in section.into_imports() {
            imports += 1;
            if let TypeRef::Func(ty) | TypeRef::FuncExact(ty) = import?.ty {
                self.signatures.functions.push(ty);
                self.next += 1;
                self.core.imported_functions += 1;
            }
        }
        self.core.imports += imports;
        Ok(imports)
    }

    pub(super) fn functions(
        &mut self,
        section: FunctionSectionReader<'_>,
    ) -> Result<(), BinaryReaderError> {
        self.core.functions += u64::from(section.count());
        for ty in section {
            self.signatures.functions.push(ty?);
        }
        Ok(())
    }

    pub(super) fn tables(
        &mut self,
        section: TableSectionReader<'_>,
    ) -> Result<(), BinaryReaderError> {
        let core = &mut self.core;
        for table in section {
            let table = table?;
            core.tables += 1;
            core.table_elements = core.table_elements.saturating_add(table.ty.initial);
        }
        Ok(())
    }

    pub(super) fn memories(
        &mut self,
        section: MemorySectionReader<'_>,
    ) -> Result<(), BinaryReaderError> {
        let core = &mut self.core;
        for memory in section {
            let memory = memory?;
            core.memories += 1;
            let page = memory.page_size_log2.unwrap_or(16).min(63);
            let bytes = memory.initial.saturating_mul(1 << page);
            core.memory_bytes = core.memory_bytes.saturating_add(bytes);
        }
        Ok(())
    }

    pub(super) fn elements(
        &mut self,
        section: ElementSectionReader<'_>,
    ) -> Result<(), BinaryReaderError> {
        for element in section {
            let element = element?;
            self.core.segments += 1;
            let count = match element.items {
                ElementItems::Functions(items) => items.count(),
                ElementItems::Expressions(_, items) => items.count(),
            };
            if let ElementKind::Passive = element.kind {
                self.core.passive_elements += u64::from(count);
            }
        }
        Ok(())
    }

    pub(super) fn data(&mut self, section: DataSectionReader<'_>) -> Result<(), BinaryReaderError> {
        self.core.segments += u64::from(section.count());
        for data in section {
            self.core.data_bytes += data?.data.len() as u64;
        }
        Ok(())
    }
}
