//! The description of a manifest: the one place that defines its keys.
//!
//! The parser checks values against it, the schema is printed from it, and a test
//! compares the page on manifests with it.

/// The form of a value.
pub(super) enum Shape {
    /// A text that matches a regular expression: its description for messages, and the
    /// expression.
    Text(&'static str, &'static str),
    /// A whole number within bounds, both included.
    Number(i64, i64),
    /// A number of bytes, or a text as in `64MiB`.
    Size,
    /// A text as in `500ms`.
    Time,
    /// The same, or `none`.
    TimeOrNone,
    /// One of these words, each with its meaning.
    Word(&'static [(&'static str, &'static str)]),
    /// A list without repetitions, with its least length.
    Set(&'static Shape, usize),
    /// A list.
    List(&'static Shape),
    /// A table whose keys are names that match a regular expression, with a description
    /// of a key and the least number of keys.
    Names {
        of: &'static str,
        pattern: &'static str,
        least: usize,
        each: &'static Shape,
    },
    /// A table with certain keys.
    Table(&'static TableShape),
    /// A word, or a table.
    Either(&'static Shape, &'static Shape),
}

/// A table with certain keys.
pub(super) struct TableShape {
    /// A description for messages, such as `a guest`.
    pub(super) what: &'static str,
    pub(super) keys: &'static [KeyShape],
}

/// A key of a table.
pub(super) struct KeyShape {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) required: bool,
    /// The meaning, in a sentence.
    pub(super) doc: &'static str,
    /// The default, in words.
    pub(super) default: &'static str,
    /// An example, in TOML.
    pub(super) example: &'static str,
}

impl TableShape {
    pub(super) fn key(&self, name: &str) -> Option<&'static KeyShape> {
        self.keys.iter().find(|key| key.name == name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|key| key.name)
    }
}

/// Creates a required key.
const fn required(
    name: &'static str,
    shape: Shape,
    doc: &'static str,
    example: &'static str,
) -> KeyShape {
    KeyShape {
        name,
        shape,
        required: true,
        doc,
        default: "",
        example,
    }
}

/// Creates an optional key.
const fn optional(
    name: &'static str,
    shape: Shape,
    doc: &'static str,
    default: &'static str,
    example: &'static str,
) -> KeyShape {
    KeyShape {
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
    ("read", "map for reading, copy out"),
    (
        "write",
        "copy in, freeze, clear poison, and with `read` map for writing",
    ),
    ("share", "duplicate, move, publish"),
]);
static RIGHTS: Shape = Shape::Set(&RIGHT, 1);

/// The whole manifest.
pub(super) static MANIFEST: TableShape = TableShape {
    what: "a manifest",
    keys: &[
        optional(
            "app",
            Shape::Table(&APP),
            "Settings of the whole app.",
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
             command: it gets standard input and the arguments of the command line.",
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
            "The channels, by name: queues of messages from some guests to one.",
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
            "The scopes, by name: namespaces in which members share regions.",
            "no scopes",
            r#"scopes.pool = { members = { decode = ["read", "write", "share"] } }"#,
        ),
    ],
};

pub(super) static APP: TableShape = TableShape {
    what: "`app`",
    keys: &[
        optional(
            "budget",
            Shape::Size,
            "The memory that all regions together may commit.",
            "half of the machine's memory, or of the cgroup's limit if that is less",
            r#"budget = "64MiB""#,
        ),
        optional(
            "margin",
            Shape::Size,
            "The memory to keep free; 0 for none. If less is free, unpinned bytes are purged. If less than half of it is free and nothing can be purged, memories do not grow, regions are not committed, and guests may be terminated.",
            "an eighth of the machine's memory, or of the cgroup's limit if that is less; at most 256 MiB",
            r#"margin = "32MiB""#,
        ),
        optional(
            "on-pressure",
            Shape::Word(&[
                ("purge", "purge unpinned bytes"),
                (
                    "dry-run",
                    "purge, and report which guests would be terminated",
                ),
                ("kill", "purge, and terminate guests if that is not enough"),
            ]),
            "The reaction to memory pressure.",
            "`purge`",
            r#"on-pressure = "kill""#,
        ),
        optional(
            "oom-floor",
            Shape::Number(0, 1000),
            "Guests with a lower `oom-score` are never terminated for memory.",
            "1",
            "oom-floor = 1",
        ),
        optional(
            "stop-timeout",
            Shape::Time,
            "How long commands may take to finish at shutdown, if any of them imports \
             `tombolo:app/lifecycle`. If none does, they are terminated at once.",
            "1s",
            r#"stop-timeout = "5s""#,
        ),
        optional(
            "limits",
            Shape::Table(&LIMITS),
            "The limits of each guest that does not set them itself.",
            "the defaults of its keys",
            r#"limits = { memory = "64MiB" }"#,
        ),
    ],
};

pub(super) static GUEST: TableShape = TableShape {
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
            "Its arguments, after its name. The first command also gets the arguments that \
             follow `--` on the command line.",
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
            "Environment variables to set.",
            "none",
            r#"env = { KEY = "value" }"#,
        ),
        optional(
            "pass-env",
            Shape::Set(&VARIABLE_NAME, 0),
            "Environment variables to pass on from `tombolo`.",
            "none",
            r#"pass-env = ["LANG"]"#,
        ),
        optional(
            "dirs",
            Shape::List(&Shape::Table(&DIR)),
            "The directories that it may open.",
            "none",
            r#"dirs = [{ host = "images", guest = "/images", access = "read" }]"#,
        ),
        optional(
            "limits",
            Shape::Table(&LIMITS),
            "Its limits.",
            "those of `app`",
            r#"limits = { memory = "64MiB", call-time = "5s" }"#,
        ),
        optional(
            "oom-score",
            Shape::Number(0, 1000),
            "The guest with the highest score is terminated first when memory is short.",
            "500",
            "oom-score = 700",
        ),
        optional(
            "strand",
            Shape::Text("a strand's name", NAME),
            "Its strand. Guests of one strand take turns and may share live windows; strands \
             run in parallel.",
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
            "Whether it is restarted after a failure.",
            "`never`",
            r#"restart = { policy = "on-failure", delay = "100ms" }"#,
        ),
    ],
};

pub(super) static DIR: TableShape = TableShape {
    what: "a directory",
    keys: &[
        required(
            "host",
            Shape::Text("a path", SOME),
            "The directory on the host.",
            r#"host = "images""#,
        ),
        optional(
            "guest",
            Shape::Text("a path", SOME),
            "The path at which the guest sees it.",
            "the text of `host`",
            r#"guest = "/images""#,
        ),
        optional(
            "access",
            Shape::Word(&[("read", "read only"), ("write", "read and change")]),
            "What the guest may do there.",
            "`read`",
            r#"access = "read""#,
        ),
    ],
};

const POLICIES: &[(&str, &str)] = &[
    ("never", "its first failure is final"),
    (
        "on-failure",
        "it is restarted if it traps, is terminated, or exits with another code than 0",
    ),
];
static RESTARTS: Shape = Shape::Word(POLICIES);

pub(super) static RESTART: TableShape = TableShape {
    what: "`restart`",
    keys: &[
        required(
            "policy",
            Shape::Word(POLICIES),
            "Whether it is restarted after a failure.",
            r#"policy = "on-failure""#,
        ),
        optional(
            "delay",
            Shape::Time,
            "The delay after the first failure; it doubles with each further one.",
            "100ms",
            r#"delay = "100ms""#,
        ),
        optional(
            "max-delay",
            Shape::Time,
            "The longest delay.",
            "10s",
            r#"max-delay = "10s""#,
        ),
        optional(
            "max-restarts",
            Shape::Number(0, u32::MAX as i64),
            "The most restarts in a row. After that, it is not restarted.",
            "5",
            "max-restarts = 5",
        ),
        optional(
            "healthy-after",
            Shape::Time,
            "How long it must run until earlier failures are forgotten.",
            "10s",
            r#"healthy-after = "10s""#,
        ),
    ],
};

pub(super) static CHANNEL: TableShape = TableShape {
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
            "The most messages that may wait in it.",
            "16",
            "capacity = 8",
        ),
        optional(
            "message-bytes",
            Shape::Size,
            "The most bytes in a message, besides its regions; at most 64 MiB.",
            "1MiB",
            r#"message-bytes = "64KiB""#,
        ),
        optional(
            "message-regions",
            Shape::Number(0, u32::MAX as i64),
            "The most regions in a message.",
            "16",
            "message-regions = 1",
        ),
    ],
};

pub(super) static SCOPE: TableShape = TableShape {
    what: "a scope",
    keys: &[required(
        "members",
        Shape::Names {
            of: "a member",
            pattern: NAME,
            least: 1,
            each: &RIGHTS,
        },
        "The member guests, and the rights that each gets to the regions it opens. A member \
         with `share` may publish.",
        r#"members = { decode = ["read", "write", "share"], resize = ["read"] }"#,
    )],
};

/// The limits. A test compares them with those of `--limit`.
pub(super) static LIMITS: TableShape = TableShape {
    what: "`limits`",
    keys: &[
        count(
            "regions",
            "Claims on regions.",
            "1024, or an eighth of `RLIMIT_NOFILE` if that is less",
            "regions = 64",
        ),
        size(
            "claimed-bytes",
            "Total size of the regions that it has claims on.",
            "half of the machine's memory, or of the cgroup's limit",
            r#"claimed-bytes = "1GiB""#,
        ),
        size(
            "region-bytes",
            "Size of one region.",
            "that of `claimed-bytes`",
            r#"region-bytes = "64MiB""#,
        ),
        count(
            "handles",
            "Handles to regions, and to resources of other guests.",
            "4096",
            "handles = 256",
        ),
        count("windows", "Windows.", "4096", "windows = 256"),
        count(
            "vmas",
            "Kernel mappings (VMAs) into which windows may split its memories.",
            "8192",
            "vmas = 1024",
        ),
        size(
            "copy-bytes",
            "Bytes in one `read-at` or `write-at`.",
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
            "Bytes of all its linear memories together.",
            "4GiB",
            r#"memory = "64MiB""#,
        ),
        size(
            "host-memory",
            "Bytes of host memory for its instances, tables, streams and values in calls.",
            "128MiB",
            r#"host-memory = "32MiB""#,
        ),
        count(
            "descriptors",
            "Descriptors, streams and other WASI resources.",
            "that of `regions`, but at least 16",
            "descriptors = 64",
        ),
        count(
            "tasks",
            "Calls that it answers at a time, if it has async functions; at least 1.",
            "16",
            "tasks = 4",
        ),
        time(
            "call-time",
            "How long a call to it, or its instantiation, may take.",
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
) -> KeyShape {
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
) -> KeyShape {
    optional(name, Shape::Size, doc, default, example)
}

const fn time(
    name: &'static str,
    doc: &'static str,
    default: &'static str,
    example: &'static str,
) -> KeyShape {
    optional(name, Shape::TimeOrNone, doc, default, example)
}
