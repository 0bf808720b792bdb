//! What a manifest looks like: the one place that says which keys there are.
//!
//! The parser checks values against this, the schema is printed from it, and the
//! page on manifests is tested to name all of it.

/// What a value looks like.
pub(super) enum Shape {
    /// A text that matches a regular expression; what it is, for messages.
    Text(&'static str, &'static str),
    /// A whole number within bounds, both included.
    Number(i64, i64),
    /// A number of bytes, or a text as in `64MiB`.
    Size,
    /// A text as in `500ms`.
    Time,
    /// The same, or `none`.
    TimeOrNone,
    /// One of these words; with what each means.
    Word(&'static [(&'static str, &'static str)]),
    /// A list without repetitions; how many there are at least.
    Set(&'static Shape, usize),
    /// A list.
    List(&'static Shape),
    /// A table whose keys are names that match a regular expression; what they
    /// are, and how many there are at least.
    Names {
        of: &'static str,
        pattern: &'static str,
        least: usize,
        each: &'static Shape,
    },
    /// A table with certain keys.
    Table(&'static Table),
    /// A word, or a table.
    Either(&'static Shape, &'static Shape),
}

/// A table with certain keys.
pub(super) struct Table {
    /// What it is, for messages: as in `a guest`.
    pub(super) what: &'static str,
    pub(super) keys: &'static [Key],
}

/// A key of a table.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) required: bool,
    /// What it means.
    pub(super) doc: &'static str,
    /// What holds without it, in words.
    pub(super) default: &'static str,
    /// A value for it, in TOML.
    pub(super) example: &'static str,
}

impl Table {
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|key| key.name)
    }
}

/// A key that is required.
const fn required(
    name: &'static str,
    shape: Shape,
    doc: &'static str,
    example: &'static str,
) -> Key {
    Key {
        name,
        shape,
        required: true,
        doc,
        default: "",
        example,
    }
}

/// A key that can be left out.
const fn optional(
    name: &'static str,
    shape: Shape,
    doc: &'static str,
    default: &'static str,
    example: &'static str,
) -> Key {
    Key {
        name,
        shape,
        required: false,
        doc,
        default,
        example,
    }
}

pub(super) const SIZE: &str =
    r"^([0-9]{1,12}|[0-9]{1,12}(\.[0-9]{1,3})? ?([kKmMgGtT][iI]?[bB]?|[bB]))$";
pub(super) const TIME: &str = r"^[0-9]{1,9}(ns|us|ms|s|m|h|d)( ?[0-9]{1,9}(ns|us|ms|s|m|h|d))*$";
pub(super) const TIME_OR_NONE: &str =
    r"^(none|[0-9]{1,9}(ns|us|ms|s|m|h|d)( ?[0-9]{1,9}(ns|us|ms|s|m|h|d))*)$";
pub(super) const NAME: &str = "^[A-Za-z0-9_-]{1,64}$";
pub(super) const SOME: &str = r"^[^\u0000]+$";
const ANY: &str = r"^[^\u0000]*$";
pub(super) const VARIABLE: &str = r"^[^=\u0000]+$";

static GUEST_NAME: Shape = Shape::Text("a guest's name", NAME);
static ARGUMENT: Shape = Shape::Text("a text", ANY);
static VARIABLE_NAME: Shape = Shape::Text("a variable's name", VARIABLE);
static RIGHT: Shape = Shape::Word(&[
    ("read", "map for reading, and copy out"),
    ("write", "map for writing, copy in, freeze, clear poison"),
    ("share", "duplicate, move, publish"),
]);
static RIGHTS: Shape = Shape::Set(&RIGHT, 1);

/// The whole manifest.
pub(super) static MANIFEST: Table = Table {
    what: "a manifest",
    keys: &[
        optional(
            "app",
            Shape::Table(&APP),
            "What holds for all guests together.",
            "the defaults of its keys",
            r#"app = { budget = "64MiB" }"#,
        ),
        required(
            "guests",
            Shape::Names {
                of: "a guest",
                pattern: NAME,
                least: 1,
                each: &Shape::Table(&GUEST),
            },
            "The guests, by name. The first one that exports `wasi:cli/run` is the first \
             command: it has standard input, and the arguments of the command line.",
            r#"guests.decode = { component = "decode.wasm" }"#,
        ),
        optional(
            "channels",
            Shape::Names {
                of: "a channel",
                pattern: NAME,
                least: 0,
                each: &Shape::Table(&CHANNEL),
            },
            "The channels, by name: messages from some guests to one, first in, first out.",
            "no channels",
            r#"channels.frames = { from = ["decode"], to = "resize" }"#,
        ),
        optional(
            "scopes",
            Shape::Names {
                of: "a scope",
                pattern: NAME,
                least: 0,
                each: &Shape::Table(&SCOPE),
            },
            "The scopes, by name: names of regions that their members share.",
            "no scopes",
            r#"scopes.pool = { members = { decode = ["read", "write", "share"] } }"#,
        ),
    ],
};

pub(super) static APP: Table = Table {
    what: "`app`",
    keys: &[
        optional(
            "budget",
            Shape::Size,
            "How much memory all regions may commit.",
            "half of the machine's memory, or of the cgroup's limit if that is less",
            r#"budget = "64MiB""#,
        ),
        optional(
            "margin",
            Shape::Size,
            "How much memory to keep free; 0 for none. When less is left, what nobody pins is purged; when less than half of it is left and there is nothing to purge, memories do not grow, regions are not committed, and guests may be ended.",
            "an eighth of the machine's memory, or of the cgroup's limit if that is less; 256 MiB at most",
            r#"margin = "32MiB""#,
        ),
        optional(
            "on-pressure",
            Shape::Word(&[
                ("purge", "purge what nobody pins"),
                ("count", "purge, and count which guests would be ended"),
                ("kill", "purge, and where that is not enough, end guests"),
            ]),
            "What to do when memory is short.",
            "`purge`",
            r#"on-pressure = "kill""#,
        ),
        optional(
            "floor",
            Shape::Number(0, 1000),
            "No guest with a lower score is ended when memory is short.",
            "1",
            "floor = 1",
        ),
        optional(
            "grace",
            Shape::Time,
            "How long commands have to finish when the app is told to stop, if any of them \
             hears of it. If none does, they are ended at once.",
            "1s",
            r#"grace = "5s""#,
        ),
        optional(
            "limits",
            Shape::Table(&LIMITS),
            "What each guest may hold and take, where it does not have the same limit itself.",
            "the defaults of its keys",
            r#"limits = { memory = "64MiB" }"#,
        ),
    ],
};

pub(super) static GUEST: Table = Table {
    what: "a guest",
    keys: &[
        required(
            "component",
            Shape::Text("a path", SOME),
            "The component's file.",
            r#"component = "decode.wasm""#,
        ),
        optional(
            "args",
            Shape::List(&ARGUMENT),
            "Its arguments. Its name is put in front; what follows `--` on the command line \
             comes after those of the first command.",
            "none",
            r#"args = ["--fast"]"#,
        ),
        optional(
            "env",
            Shape::Names {
                of: "a variable",
                pattern: VARIABLE,
                least: 0,
                each: &ARGUMENT,
            },
            "Variables that are set for it.",
            "none",
            r#"env = { KEY = "value" }"#,
        ),
        optional(
            "pass-env",
            Shape::Set(&VARIABLE_NAME, 0),
            "Variables that are passed on to it from the environment of `tombolo`.",
            "none",
            r#"pass-env = ["LANG"]"#,
        ),
        optional(
            "dirs",
            Shape::List(&Shape::Table(&DIR)),
            "The directories that it can open.",
            "none",
            r#"dirs = [{ host = "images", guest = "/images", access = "read" }]"#,
        ),
        optional(
            "limits",
            Shape::Table(&LIMITS),
            "What it may hold and take.",
            "those of `app`",
            r#"limits = { memory = "64MiB", call-time = "5s" }"#,
        ),
        optional(
            "score",
            Shape::Number(0, 1000),
            "The higher, the sooner it is ended when memory is short.",
            "500",
            "score = 700",
        ),
        optional(
            "strand",
            Shape::Text("a strand's name", NAME),
            "Its strand: guests of one strand take turns, those of different ones run in \
             parallel. Only those of one may share live windows.",
            "a strand of its own",
            r#"strand = "front""#,
        ),
        optional(
            "calls",
            Shape::Set(&GUEST_NAME, 0),
            "The guests that it may call.",
            "none",
            r#"calls = ["resize"]"#,
        ),
        optional(
            "restart",
            Shape::Either(&RESTARTS, &Shape::Table(&RESTART)),
            "Whether it is started again when it fails.",
            "`never`",
            r#"restart = { policy = "on-failure", delay = "100ms" }"#,
        ),
    ],
};

pub(super) static DIR: Table = Table {
    what: "a directory",
    keys: &[
        required(
            "host",
            Shape::Text("a path", SOME),
            "The directory.",
            r#"host = "images""#,
        ),
        optional(
            "guest",
            Shape::Text("a path", SOME),
            "The path under which the guest sees it.",
            "as `host` is written",
            r#"guest = "/images""#,
        ),
        optional(
            "access",
            Shape::Word(&[
                ("read", "to read in it"),
                ("write", "to read in it, and to change it"),
            ]),
            "What the guest can do there.",
            "`read`",
            r#"access = "read""#,
        ),
    ],
};

const POLICIES: &[(&str, &str)] = &[
    ("never", "its end is its end"),
    (
        "on-failure",
        "it is started anew when it traps, is ended, or exits with a code other than 0",
    ),
];
static RESTARTS: Shape = Shape::Word(POLICIES);

pub(super) static RESTART: Table = Table {
    what: "`restart`",
    keys: &[
        required(
            "policy",
            Shape::Word(POLICIES),
            "Whether it is started again.",
            r#"policy = "on-failure""#,
        ),
        optional(
            "delay",
            Shape::Time,
            "The wait after the first failure; it doubles with each one.",
            "100ms",
            r#"delay = "100ms""#,
        ),
        optional(
            "max-delay",
            Shape::Time,
            "The longest wait.",
            "10s",
            r#"max-delay = "10s""#,
        ),
        optional(
            "max-restarts",
            Shape::Number(0, u32::MAX as i64),
            "How many restarts in a row there are at most: then the guest has ended.",
            "5",
            "max-restarts = 5",
        ),
        optional(
            "healthy-after",
            Shape::Time,
            "How long it must live for its failures before that to be forgotten.",
            "10s",
            r#"healthy-after = "10s""#,
        ),
    ],
};

pub(super) static CHANNEL: Table = Table {
    what: "a channel",
    keys: &[
        required(
            "from",
            Shape::Set(&GUEST_NAME, 1),
            "The guests that may send.",
            r#"from = ["decode"]"#,
        ),
        required(
            "to",
            Shape::Text("a guest's name", NAME),
            "The guest that receives.",
            r#"to = "resize""#,
        ),
        optional(
            "capacity",
            Shape::Number(1, u32::MAX as i64),
            "How many messages may wait in it.",
            "16",
            "capacity = 8",
        ),
        optional(
            "message-bytes",
            Shape::Size,
            "How many bytes a message may have, besides its regions: 64 MiB at most.",
            "1MiB",
            r#"message-bytes = "64KiB""#,
        ),
        optional(
            "message-regions",
            Shape::Number(0, u32::MAX as i64),
            "How many regions a message may have.",
            "16",
            "message-regions = 1",
        ),
    ],
};

pub(super) static SCOPE: Table = Table {
    what: "a scope",
    keys: &[required(
        "members",
        Shape::Names {
            of: "a member",
            pattern: NAME,
            least: 1,
            each: &RIGHTS,
        },
        "The guests that are members, and the rights that each gets to what it opens. Who \
         has `share` may publish.",
        r#"members = { decode = ["read", "write", "share"], resize = ["read"] }"#,
    )],
};

/// The limits; tested to be those of `--limit`.
pub(super) static LIMITS: Table = Table {
    what: "`limits`",
    keys: &[
        count(
            "regions",
            "Claims on regions.",
            "1024, or an eighth of the process's limit of file descriptors",
            "regions = 64",
        ),
        size(
            "claimed-bytes",
            "Bytes of the regions that it has claims on.",
            "half of the machine's memory, or of the cgroup's limit",
            r#"claimed-bytes = "1GiB""#,
        ),
        size(
            "region-bytes",
            "Bytes in one region.",
            "as `claimed-bytes`",
            r#"region-bytes = "64MiB""#,
        ),
        count(
            "handles",
            "Handles to regions, and to resources that other guests define.",
            "4096",
            "handles = 256",
        ),
        count("windows", "Windows.", "4096", "windows = 256"),
        count(
            "mappings",
            "Kernel mappings into which windows may cut its memories.",
            "8192",
            "mappings = 1024",
        ),
        size(
            "copy-bytes",
            "Bytes per `read-at` and `write-at`.",
            "16MiB",
            r#"copy-bytes = "1MiB""#,
        ),
        count(
            "unpinned-spans",
            "Separate runs of bytes that its claims do not pin.",
            "16384",
            "unpinned-spans = 1024",
        ),
        size(
            "memory",
            "Bytes of linear memory, all its memories together.",
            "4GiB",
            r#"memory = "64MiB""#,
        ),
        size(
            "host-memory",
            "Bytes of the host's own memory for its instances, tables, streams and values in calls.",
            "128MiB",
            r#"host-memory = "32MiB""#,
        ),
        count(
            "descriptors",
            "Descriptors, streams and the like from WASI.",
            "as `regions`, but 16 at least",
            "descriptors = 64",
        ),
        time(
            "call-time",
            "How long a call to it may take.",
            "60s",
            r#"call-time = "5s""#,
        ),
        time(
            "run-time",
            "How long it may run, if it is a command.",
            "`none`",
            r#"run-time = "10m""#,
        ),
    ],
};

const fn count(
    name: &'static str,
    doc: &'static str,
    default: &'static str,
    example: &'static str,
) -> Key {
    optional(
        name,
        Shape::Number(0, u32::MAX as i64),
        doc,
        default,
        example,
    )
}

const fn size(
    name: &'static str,
    doc: &'static str,
    default: &'static str,
    example: &'static str,
) -> Key {
    optional(name, Shape::Size, doc, default, example)
}

const fn time(
    name: &'static str,
    doc: &'static str,
    default: &'static str,
    example: &'static str,
) -> Key {
    optional(name, Shape::TimeOrNone, doc, default, example)
}
