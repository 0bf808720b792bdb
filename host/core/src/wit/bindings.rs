//! Generated bindings for the interface `tombolo:memory/regions`.

#![allow(missing_docs, unreachable_pub)]

wasmtime::component::bindgen!({
    path: "wit/memory",
    inline: "
        package tombolo:host;
        world host {
            import tombolo:memory/regions@0.1.0;
        }
    ",
    imports: { default: trappable },
    trappable_error_type: {
        "tombolo:memory/regions.error-code" => crate::wit::bindings::HostFailure,
    },
    with: {
        "tombolo:memory/regions.region": crate::host::Region,
    },
});

/// Bindings that use WASI's. Separate, because those require store data that are `Send`.
#[cfg(feature = "wasi-io")]
pub mod with_wasi {
    wasmtime::component::bindgen!({
        path: "wit/memory",
        inline: "
            package tombolo:host-with-wasi;
            world host {
                import tombolo:memory/pressure@0.1.0;
            }
        ",
        imports: { default: trappable },
        require_store_data_send: true,
        with: {
            "tombolo:memory/pressure.watch": crate::wit::watch::Watch,
            "wasi:io/poll": wasmtime_wasi_io::bindings::wasi::io::poll,
        },
    });
}

/// A failure of a host function: a code for the guest, or a trap.
#[derive(Debug)]
pub enum HostFailure {
    Code(tombolo::memory::regions::ErrorCode),
    Trap(wasmtime::Error),
}

impl std::fmt::Display for HostFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HostFailure::Code(code) => std::fmt::Debug::fmt(code, f),
            HostFailure::Trap(error) => std::fmt::Display::fmt(error, f),
        }
    }
}

impl std::error::Error for HostFailure {}
