//! The types of Spin's crate `spin-factors` that a factor meets, with the same names and
//! signatures. The page of this example says what to do with this file.

use std::any::{Any, type_name};
use std::marker::PhantomData;

use wasmtime::component::{HasData, Linker, ResourceTable};

/// A result with an error of the factors.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the factors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A factor failed to initialize.
    #[error("{factor}::init failed: {source}")]
    FactorInitError {
        /// The factor.
        factor: &'static str,
        /// Its error.
        source: anyhow::Error,
    },
    /// A factor failed to configure an app.
    #[error("{factor}::configure_app failed: {source}")]
    FactorConfigureAppError {
        /// The factor.
        factor: &'static str,
        /// Its error.
        source: anyhow::Error,
    },
    /// A factor failed to prepare an instance.
    #[error("{factor}::prepare failed: {source}")]
    FactorPrepareError {
        /// The factor.
        factor: &'static str,
        /// Its error.
        source: anyhow::Error,
    },
    /// A factor failed to build the state of an instance.
    #[error("{factor}::InstanceBuilder::build failed: {source}")]
    FactorBuildError {
        /// The factor.
        factor: &'static str,
        /// Its error.
        source: anyhow::Error,
    },
    /// There is no such factor.
    #[error("no such factor: {0}")]
    NoSuchFactor(&'static str),
    /// There is no such component.
    #[error("unknown component: {0}")]
    UnknownComponent(String),
}

impl Error {
    /// Returns that there is no factor `F`.
    pub fn no_such_factor<F: Factor>() -> Error {
        Error::NoSuchFactor(type_name::<F>())
    }
}

/// An app, from the crate `spin-app`.
#[derive(Debug)]
pub struct App {
    components: Vec<String>,
}

impl App {
    /// Creates an app of components with these ids.
    pub fn new(components: impl IntoIterator<Item = impl Into<String>>) -> App {
        App {
            components: components.into_iter().map(Into::into).collect(),
        }
    }

    /// Returns a component.
    pub fn get_component<'a>(&'a self, component_id: &'a str) -> Option<AppComponent<'a>> {
        let known = self.components.iter().any(|id| id == component_id);
        known.then_some(AppComponent {
            id: component_id,
            _app: self,
        })
    }
}

/// A component of an app, from the crate `spin-app`.
#[derive(Debug)]
pub struct AppComponent<'a> {
    id: &'a str,
    _app: &'a App,
}

impl AppComponent<'_> {
    /// Returns the id of the component.
    pub fn id(&self) -> &str {
        self.id
    }
}

/// A part of the runtime's functions.
pub trait Factor: Any + Sized {
    /// The operator's configuration.
    type RuntimeConfig;
    /// The state for an app.
    type AppState: Sync;
    /// The builder of the state for an instance.
    type InstanceBuilder: FactorInstanceBuilder;

    /// Adds the factor's interfaces to the linker, once.
    ///
    /// # Errors
    ///
    /// As the linker's.
    fn init<T: InitContext<Self>>(&mut self, ctx: &mut T) -> anyhow::Result<()> {
        let _ = ctx;
        Ok(())
    }

    /// Creates the state for an app.
    ///
    /// # Errors
    ///
    /// If the configuration is wrong.
    fn configure_app<T: RuntimeFactors>(
        &self,
        ctx: ConfigureAppContext<T, Self>,
    ) -> anyhow::Result<Self::AppState>;

    /// Begins to build the state for an instance of a component.
    ///
    /// # Errors
    ///
    /// If the component may not be instantiated.
    fn prepare<T: RuntimeFactors>(
        &self,
        ctx: PrepareContext<T, Self>,
    ) -> anyhow::Result<Self::InstanceBuilder>;
}

/// The state of a factor for an instance.
pub type FactorInstanceState<F> =
    <<F as Factor>::InstanceBuilder as FactorInstanceBuilder>::InstanceState;

/// The builder of a factor's state for an instance.
pub trait FactorInstanceBuilder: Any {
    /// The state.
    type InstanceState: Send + 'static;

    /// Builds the state.
    ///
    /// # Errors
    ///
    /// As the factor's.
    fn build(self) -> anyhow::Result<Self::InstanceState>;
}

/// The context in which a factor initializes.
pub trait InitContext<F: Factor> {
    /// The data of stores.
    type StoreData: Send + 'static;

    /// Returns the linker.
    fn linker(&mut self) -> &mut Linker<Self::StoreData>;

    /// Returns the factor's state.
    fn get_data(store: &mut Self::StoreData) -> &mut FactorInstanceState<F> {
        Self::get_data_with_table(store).0
    }

    /// Returns the factor's state, and the table of resources.
    fn get_data_with_table(
        store: &mut Self::StoreData,
    ) -> (&mut FactorInstanceState<F>, &mut ResourceTable);

    /// Adds an interface to the linker.
    ///
    /// # Errors
    ///
    /// As the linker's.
    fn link_bindings(
        &mut self,
        add_to_linker: impl Fn(
            &mut Linker<Self::StoreData>,
            fn(&mut Self::StoreData) -> &mut FactorInstanceState<F>,
        ) -> wasmtime::Result<()>,
    ) -> wasmtime::Result<()> {
        add_to_linker(self.linker(), Self::get_data)
    }
}

/// The data by which generated bindings reach a factor's state.
#[derive(Debug)]
pub struct FactorData<F>(F);

impl<F: Factor> HasData for FactorData<F> {
    type Data<'a> = &'a mut FactorInstanceState<F>;
}

/// The context that the derive creates.
pub struct FactorInitContext<'a, T: 'static, G> {
    /// The linker.
    pub linker: &'a mut Linker<T>,
    /// The field of the factor.
    pub _marker: PhantomData<G>,
}

/// A field of the state, which the derive defines.
pub trait FactorField {
    /// The state of all factors.
    type State: RuntimeFactorsInstanceState;
    /// The factor.
    type Factor: Factor;

    /// Returns the field, and the table of resources.
    fn get(field: &mut Self::State)
    -> (&mut FactorInstanceState<Self::Factor>, &mut ResourceTable);
}

impl<T, G> InitContext<G::Factor> for FactorInitContext<'_, T, G>
where
    G: FactorField,
    T: AsInstanceState<G::State> + Send + 'static,
{
    type StoreData = T;

    fn linker(&mut self) -> &mut Linker<Self::StoreData> {
        self.linker
    }

    fn get_data_with_table(
        store: &mut Self::StoreData,
    ) -> (&mut FactorInstanceState<G::Factor>, &mut ResourceTable) {
        G::get(store.as_instance_state())
    }
}

/// The context in which a factor configures an app.
#[derive(Debug)]
pub struct ConfigureAppContext<'a, T: RuntimeFactors, F: Factor> {
    app: &'a App,
    app_state: &'a T::AppState,
    runtime_config: Option<F::RuntimeConfig>,
}

impl<'a, T: RuntimeFactors, F: Factor> ConfigureAppContext<'a, T, F> {
    /// Creates a context.
    ///
    /// # Errors
    ///
    /// None.
    pub fn new(
        app: &'a App,
        app_state: &'a T::AppState,
        runtime_config: Option<F::RuntimeConfig>,
    ) -> Result<Self> {
        Ok(Self {
            app,
            app_state,
            runtime_config,
        })
    }

    /// Returns the app.
    pub fn app(&self) -> &'a App {
        self.app
    }

    /// Returns the state of another factor.
    ///
    /// # Errors
    ///
    /// If there is no such factor.
    pub fn app_state<U: Factor>(&self) -> Result<&'a U::AppState> {
        T::app_state::<U>(self.app_state).ok_or(Error::no_such_factor::<U>())
    }

    /// Takes the operator's configuration.
    pub fn take_runtime_config(&mut self) -> Option<F::RuntimeConfig> {
        self.runtime_config.take()
    }
}

/// The context in which a factor prepares an instance.
#[derive(Debug)]
pub struct PrepareContext<'a, T: RuntimeFactors, F: Factor> {
    app_state: &'a F::AppState,
    app_component: &'a AppComponent<'a>,
    instance_builders: &'a mut T::InstanceBuilders,
}

impl<'a, T: RuntimeFactors, F: Factor> PrepareContext<'a, T, F> {
    /// Creates a context.
    pub fn new(
        app_state: &'a F::AppState,
        app_component: &'a AppComponent<'_>,
        instance_builders: &'a mut T::InstanceBuilders,
    ) -> Self {
        Self {
            app_state,
            app_component,
            instance_builders,
        }
    }

    /// Returns the factor's state for the app.
    pub fn app_state(&self) -> &'a F::AppState {
        self.app_state
    }

    /// Returns the component.
    pub fn app_component(&self) -> &'a AppComponent<'_> {
        self.app_component
    }

    /// Returns the builder of another factor, which has been prepared before.
    ///
    /// # Errors
    ///
    /// If there is no such factor.
    pub fn instance_builder<U: Factor>(&mut self) -> Result<&mut U::InstanceBuilder> {
        let builder = T::instance_builder_mut::<U>(self.instance_builders);
        builder.flatten().ok_or(Error::no_such_factor::<U>())
    }
}

/// An app that all factors have configured.
#[derive(Debug)]
pub struct ConfiguredApp<T: RuntimeFactors> {
    app: App,
    app_state: T::AppState,
}

impl<T: RuntimeFactors> ConfiguredApp<T> {
    /// Creates a configured app.
    pub fn new(app: App, app_state: T::AppState) -> Self {
        Self { app, app_state }
    }

    /// Returns the app.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Returns the state of a factor.
    ///
    /// # Errors
    ///
    /// If there is no such factor.
    pub fn app_state<U: Factor>(&self) -> Result<&U::AppState> {
        T::app_state::<U>(&self.app_state).ok_or(Error::no_such_factor::<U>())
    }
}

/// All factors of a runtime. Spin derives it.
pub trait RuntimeFactors: Send + Sync + Sized + 'static {
    /// The states for an app.
    type AppState: Sync + Send;
    /// The states for an instance.
    type InstanceState: RuntimeFactorsInstanceState;
    /// The builders of the states for an instance.
    type InstanceBuilders: Send + HasInstanceBuilder;
    /// The operator's configuration.
    type RuntimeConfig: Default;

    /// Initializes all factors.
    ///
    /// # Errors
    ///
    /// The first error of a factor.
    fn init<T: AsInstanceState<Self::InstanceState> + Send + 'static>(
        &mut self,
        linker: &mut Linker<T>,
    ) -> Result<()>;

    /// Configures an app.
    ///
    /// # Errors
    ///
    /// The first error of a factor.
    fn configure_app(
        &self,
        app: App,
        runtime_config: Self::RuntimeConfig,
    ) -> Result<ConfiguredApp<Self>>;

    /// Prepares an instance of a component.
    ///
    /// # Errors
    ///
    /// The first error of a factor.
    fn prepare(
        &self,
        configured_app: &ConfiguredApp<Self>,
        component_id: &str,
    ) -> Result<Self::InstanceBuilders>;

    /// Builds the state of an instance.
    ///
    /// # Errors
    ///
    /// The first error of a factor.
    fn build_instance_state(&self, builders: Self::InstanceBuilders)
    -> Result<Self::InstanceState>;

    /// Returns the state of a factor.
    fn app_state<F: Factor>(app_state: &Self::AppState) -> Option<&F::AppState>;

    /// Returns the builder of a factor.
    fn instance_builder_mut<F: Factor>(
        builders: &mut Self::InstanceBuilders,
    ) -> Option<Option<&mut F::InstanceBuilder>>;
}

/// Builders by their factor.
pub trait HasInstanceBuilder {
    /// Returns the builder of a factor.
    fn for_factor<F: Factor>(&mut self) -> Option<&mut F::InstanceBuilder>;
}

/// The states of all factors for an instance.
pub trait RuntimeFactorsInstanceState: AsInstanceState<Self> + Send + 'static {
    /// Returns the state of a factor, and the table of resources.
    fn get_with_table<F: Factor>(
        &mut self,
    ) -> Option<(&mut FactorInstanceState<F>, &mut ResourceTable)>;

    /// Returns the state of a factor.
    fn get<F: Factor>(&mut self) -> Option<&mut FactorInstanceState<F>> {
        self.get_with_table::<F>().map(|(state, _)| state)
    }

    /// Returns the table of resources.
    fn table_mut(&mut self) -> &mut ResourceTable;
}

/// The data of a store that contain the states of the factors.
pub trait AsInstanceState<T: RuntimeFactorsInstanceState + ?Sized> {
    /// Returns the states.
    fn as_instance_state(&mut self) -> &mut T;
}
