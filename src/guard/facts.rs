//! What a text says, before any policy is asked: facts about every statement in it.
//!
//! Owns: the vocabulary (`Facts`, `Statement`, `StatementClass`, `Control`, `Demand`, uses of functions
//! and relations). Does not own: how they are found (`walk`, `statement`) or what is allowed (`policy`).
//!
//! Facts depend on the text alone, never on a login, so that one cache serves everybody.

use std::ops::Range;

use super::claim::{Claim, ClaimSpan, ClaimedValue};
use super::functions::FunctionClass;
use super::relations::RelationClass;
use super::state::{State, StateUse};

/// Everything the guard knows of one text. An empty text has no statements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The statements, in order.
    pub statements: Box<[Statement]>,
    /// Bytes these facts occupy, roughly: their weight in a cache.
    pub bytes: usize,
}

/// One statement of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// First byte in the text.
    pub(super) start: u32,
    /// Where it ends.
    pub(super) end: End,
    /// Its kind.
    pub class: StatementClass,
    /// Whether the tenant must be on the server before it runs (see [`Policy::needs_scope`](super::Policy::needs_scope),
    /// which also knows the names of the scope settings).
    pub needs_scope: bool,
    /// What it does to the transaction or to the client's state.
    pub control: Control,
    /// `COPY … FROM STDIN`: the server answers with CopyInResponse.
    pub copy_in: bool,
    /// PostgreSQL runs it only outside a transaction block (`VACUUM`, `CREATE INDEX CONCURRENTLY` …).
    pub outside_block: bool,
    /// Functions it calls, each once, in order of first appearance.
    pub functions: Box<[FunctionUse]>,
    /// Relations it names, each once per kind of access, in order of first appearance.
    pub relations: Box<[RelationUse]>,
    /// What it asks for beyond its class.
    pub demands: Box<[Demand]>,
    /// What it leaves in the server's session, and what it takes away.
    pub state: StateUse,
    /// The claim that it makes where its setting is one for claims: only of the form with `set_config`.
    pub(super) claim: Option<Box<Claim>>,
    /// `RESET name`, not `SET name TO DEFAULT`.
    pub(super) is_reset: bool,
    /// The classes that write rows and stand inside of it (in a CTE, an EXPLAIN, a rule …), or that it comes to (ON CONFLICT
    /// DO UPDATE, actions of MERGE), each once; its own class is not repeated.
    pub writes: Box<[StatementClass]>,
    /// One of them stands in a WITH: the server's tag does not count its rows.
    pub writes_in_with: bool,
    /// Names behind a dot (`x.name`), each once, as [`attribute_key`] has them: they may be columns or call functions.
    pub(super) attributes: Box<[u64]>,
    /// Nothing in it needs a look at names: no demand, plain functions and relations only, no settings.
    pub(super) is_ordinary: bool,
}

impl Facts {
    /// Whether a bound value will be a setting's, so that Bind must be read.
    #[must_use]
    pub fn configures_by_parameter(&self) -> bool {
        let is_bound = |configuration: &Configuration| matches!(configuration.value, ConfiguredValue::Parameter(_));
        let configures = |control: &Control| matches!(control, Control::Configure(list) if list.iter().any(is_bound));
        self.statements.iter().any(|statement| configures(&statement.control))
    }

    /// What its statements may leave in the server's session.
    #[must_use]
    pub fn leaves(&self) -> State {
        self.statements.iter().fold(State::NONE, |left, statement| left.and(statement.state.leaves))
    }

    /// What its statements may take away again.
    #[must_use]
    pub fn releases(&self) -> State {
        self.statements.iter().fold(State::NONE, |released, statement| released.and(statement.state.releases))
    }

    /// These facts with the values of `set_config` that were bound.
    ///
    /// # Errors
    /// Those of `value_of`, which is given the parameters' numbers (from 1).
    pub fn with_values<E>(&self, value_of: impl Fn(u16) -> Result<SettingValue, E>) -> Result<Facts, E> {
        let mut bound = self.clone();
        for statement in &mut bound.statements {
            let Control::Configure(list) = &mut statement.control else { continue };
            for configuration in list {
                if let ConfiguredValue::Parameter(number) = configuration.value {
                    configuration.value = ConfiguredValue::Text(value_of(number)?);
                }
            }
        }
        Ok(bound)
    }

    /// The claim that is its only statement, as prepared statements make it.
    #[must_use]
    pub fn only_claim(&self) -> Option<&Claim> {
        match &*self.statements {
            [Statement { control: Control::Claim(claim), .. }] => Some(claim),
            _ => None,
        }
    }

    /// These facts of one statement with the claim that was bound.
    #[must_use]
    pub fn with_claim(&self, value: ClaimedValue, span: ClaimSpan) -> Facts {
        let mut bound = self.clone();
        if let Some(Control::Claim(claim)) = bound.statements.first_mut().map(|statement| &mut statement.control) {
            (claim.value, claim.span) = (value, span);
        }
        bound
    }

    /// These facts for every text of the same shape as their own of `text_bytes` bytes, if they
    /// are such that literals have no say in them: one plain statement that needs no look at names. Positions are left out.
    pub(super) fn for_the_shape(&self, text_bytes: usize) -> Option<Facts> {
        use StatementClass as Class;
        let [statement] = &*self.statements else { return None };
        let is_plain =
            matches!(statement.class, Class::Select | Class::Insert | Class::Update | Class::Delete | Class::Merge);
        if !(is_plain && statement.is_ordinary && statement.control == Control::None) {
            return None;
        }
        let mut statement = statement.clone();
        let rest = text_bytes.checked_sub(statement.range(text_bytes).end)?;
        statement.end = End::Before(u32::try_from(rest).ok()?);
        for function in &mut statement.functions {
            function.position = 0;
        }
        for relation in &mut statement.relations {
            relation.position = 0;
        }
        Some(Facts { statements: Box::new([statement]), bytes: self.bytes })
    }
}

/// Where a statement ends: facts shared by texts that differ in the length of their literals count from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// At this byte of the text.
    At(u32),
    /// So many bytes before the end of the text.
    Before(u32),
}

/// A name in 8 bytes, the same within a process. Two names of one key would make a policy that denies one of them refuse
/// the other, too.
pub(super) fn attribute_key(name: &str) -> u64 {
    use std::hash::BuildHasher as _;
    foldhash::fast::FixedState::default().hash_one(name)
}

impl Statement {
    /// The statement's bytes in its text of `text_bytes` bytes: from its first byte (leading blanks and
    /// comments may be included) up to before its `;`.
    #[must_use]
    pub fn range(&self, text_bytes: usize) -> Range<usize> {
        let end = match self.end {
            End::At(end) => end as usize,
            End::Before(rest) => text_bytes.saturating_sub(rest as usize),
        };
        let end = end.min(text_bytes);
        (self.start as usize).min(end)..end
    }

    /// Whether nothing in it needs a look at names: a plain statement over plain relations.
    #[must_use]
    pub const fn is_ordinary(&self) -> bool {
        self.is_ordinary
    }
}

macro_rules! statement_classes {
    ($( $(#[$doc:meta])* $variant:ident = $name:literal; )*) => {
        /// The kinds of statements, as metrics and `explain` name them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum StatementClass { $( $(#[$doc])* $variant, )* }

        impl StatementClass {
            /// Every class.
            pub const ALL: &'static [StatementClass] = &[ $( StatementClass::$variant, )* ];

            /// The class of that name.
            #[must_use]
            pub fn of_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|class| class.name() == name)
            }

            /// The class's name: lower case, words joined by `_`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( StatementClass::$variant => $name, )* }
            }
        }
    };
}

statement_classes! {
    /// `SELECT`, `VALUES`, `TABLE`, with or without CTEs.
    Select = "select";
    /// `INSERT`.
    Insert = "insert";
    /// `UPDATE`.
    Update = "update";
    /// `DELETE`.
    Delete = "delete";
    /// `MERGE`.
    Merge = "merge";
    /// `COPY … FROM STDIN`.
    CopyIn = "copy_in";
    /// `COPY … TO STDOUT`.
    CopyOut = "copy_out";
    /// `COPY` with a file or a program on the server.
    CopyServer = "copy_server";
    /// `DECLARE … CURSOR`.
    DeclareCursor = "declare_cursor";
    /// `FETCH` and `MOVE`.
    Fetch = "fetch";
    /// `CLOSE`.
    CloseCursor = "close_cursor";
    /// `BEGIN`, `COMMIT`, `ROLLBACK`, savepoints, `SET TRANSACTION`.
    Transaction = "transaction";
    /// `PREPARE TRANSACTION` and its ends.
    TwoPhase = "two_phase";
    /// `SET CONSTRAINTS`.
    SetConstraints = "set_constraints";
    /// `SET`, `RESET`, `SET SESSION CHARACTERISTICS`.
    Setting = "setting";
    /// `SET`, `RESET` or `set_config` that names the tenant, of logins that may.
    Claim = "claim";
    /// `SHOW`.
    Show = "show";
    /// `DISCARD`.
    Discard = "discard";
    /// `DEALLOCATE`.
    Deallocate = "deallocate";
    /// `LISTEN`.
    Listen = "listen";
    /// `UNLISTEN`.
    Unlisten = "unlisten";
    /// `NOTIFY`.
    Notify = "notify";
    /// `SELECT pg_advisory_unlock_all()`, as pools send it on release.
    AdvisoryUnlockAll = "advisory_unlock_all";
    /// SQL-level `PREPARE`.
    Prepare = "prepare";
    /// SQL-level `EXECUTE`.
    Execute = "execute";
    /// `EXPLAIN`.
    Explain = "explain";
    /// `LOCK TABLE`.
    Lock = "lock";
    /// `TRUNCATE`.
    Truncate = "truncate";
    /// `CALL`.
    Call = "call";
    /// `DO`.
    Do = "do";
    /// `LOAD`.
    Load = "load";
    /// `CREATE TABLE … AS`, `SELECT INTO`, `CREATE MATERIALIZED VIEW`.
    CreateTableAs = "create_table_as";
    /// `CREATE TEMPORARY TABLE`, `… VIEW`, `… SEQUENCE`.
    CreateTemporary = "create_temporary";
    /// `DROP` of relations that are named as temporary ones (`pg_temp.x`).
    DropTemporary = "drop_temporary";
    /// Other `CREATE`, `ALTER`, `DROP`, `COMMENT`, `SECURITY LABEL`.
    Definition = "definition";
    /// `GRANT`, `REVOKE`, `ALTER DEFAULT PRIVILEGES`, ownership.
    Privileges = "privileges";
    /// Roles: `CREATE/ALTER/DROP ROLE`, `REASSIGN OWNED`, `DROP OWNED`.
    Roles = "roles";
    /// Row-level security policies.
    Policies = "policies";
    /// `VACUUM`, `ANALYZE`, `CLUSTER`, `REINDEX`.
    Maintenance = "maintenance";
    /// `REFRESH MATERIALIZED VIEW`: stores rows of whoever runs it for everybody.
    Refresh = "refresh";
    /// `CHECKPOINT`.
    Checkpoint = "checkpoint";
    /// Databases, tablespaces, `ALTER SYSTEM`, subscriptions, foreign servers, extensions, languages.
    Administration = "administration";
    /// A node that is no statement by itself (only inside PL/pgSQL or after analysis).
    NotAStatement = "not_a_statement";
}

/// What a statement does to the transaction or to the client's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Nothing.
    None,
    /// `BEGIN`, `START TRANSACTION`.
    Begin,
    /// `SET [LOCAL] TRANSACTION …`, or SET of one of `transaction_isolation`, `_read_only`, `_deferrable`.
    /// Takes no snapshot.
    SetTransaction,
    /// `COMMIT`, `END`.
    Commit {
        /// `AND CHAIN`.
        chain: bool,
    },
    /// `ROLLBACK`, `ABORT`.
    Rollback {
        /// `AND CHAIN`.
        chain: bool,
    },
    /// `SAVEPOINT name`.
    Savepoint(Box<str>),
    /// `RELEASE name`.
    Release(Box<str>),
    /// `ROLLBACK TO name`.
    RollbackTo(Box<str>),
    /// `SET name = value` in any of its forms.
    Set {
        /// The setting's name, lower case: `SET TIME ZONE` is `timezone`, `SET NAMES` is `client_encoding`,
        /// `SET SCHEMA` is `search_path`.
        name: Box<str>,
        /// What `set_config(name, value, …)` would take to have the same effect.
        value: SettingValue,
        /// `SET LOCAL`.
        local: bool,
    },
    /// `SELECT set_config('name', 'value', false)` and several of them, in the plain form that drivers send.
    Configure(Box<[Configuration]>),
    /// `SET SESSION CHARACTERISTICS AS TRANSACTION …` as (`default_transaction_…`, value).
    SetCharacteristics(Box<[(Box<str>, SettingValue)]>),
    /// `RESET name` or `SET name TO DEFAULT`.
    Reset {
        /// The setting's name, lower case.
        name: Box<str>,
        /// `SET LOCAL name TO DEFAULT`.
        local: bool,
    },
    /// A claim of the tenant: only where the login's policy has made one of a `Set`, `Reset` or `set_config`.
    Claim(Box<Claim>),
    /// `RESET ALL`.
    ResetAll,
    /// `DISCARD ALL`.
    DiscardAll,
    /// `DISCARD PLANS`.
    DiscardPlans,
    /// `DISCARD SEQUENCES`.
    DiscardSequences,
    /// `DISCARD TEMP`.
    DiscardTemp,
    /// `UNLISTEN *`.
    UnlistenAll,
    /// `UNLISTEN name`.
    Unlisten(Box<str>),
    /// `CLOSE ALL`.
    CloseAll,
    /// `CLOSE name`.
    CloseCursor(Box<str>),
    /// `DEALLOCATE ALL`.
    DeallocateAll,
    /// `DEALLOCATE name`.
    Deallocate(Box<str>),
    /// `SELECT pg_advisory_unlock_all()`, alone as a select list, optionally qualified with `pg_catalog`.
    AdvisoryUnlockAll,
    /// `SHOW name` (lower case), `SHOW ALL` as `all`.
    Show(Box<str>),
}

/// One setting that a SELECT changes by `set_config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// The setting's name, lower case.
    pub name: Box<str>,
    /// Its new value.
    pub value: ConfiguredValue,
    /// `is_local`: until the end of the transaction, as `SET LOCAL`.
    pub local: bool,
}

/// A value given to `set_config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfiguredValue {
    /// In the text.
    Text(SettingValue),
    /// `$n` (from 1), known when the client binds it.
    Parameter(u16),
}

/// A setting's value, as `set_config` takes it.
pub type SettingValue = Box<str>;

/// One function a statement calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionUse {
    /// The schema, if one is written.
    pub schema: Option<Box<str>>,
    /// The name, as PostgreSQL folds it.
    pub name: Box<str>,
    /// How many arguments are written.
    pub arguments: u16,
    /// What is known of it.
    pub class: FunctionClass,
    /// 1-based character position; 0 where unknown.
    pub position: u32,
}

/// One relation a statement names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationUse {
    /// The schema, if one is written.
    pub schema: Option<Box<str>>,
    /// The name, as PostgreSQL folds it.
    pub name: Box<str>,
    /// Read or written.
    pub access: Access,
    /// What is known of it.
    pub class: RelationClass,
    /// It is no relation but a WITH query of the statement.
    pub is_common: bool,
    /// 1-based character position; 0 where unknown.
    pub position: u32,
}

/// How a relation is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Access {
    /// In FROM, USING, or as the table of COPY TO.
    Read,
    /// The target of INSERT, UPDATE, DELETE, MERGE, COPY FROM.
    Write,
}

/// Something a statement asks for beyond its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// What.
    pub kind: DemandKind,
    /// What exactly, for the detail of a refusal.
    pub detail: Box<str>,
    /// 1-based character position; 0 where unknown.
    pub position: u32,
}

/// The kinds of [`Demand`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DemandKind {
    /// `SELECT … INTO`.
    SelectInto,
    /// `DECLARE … WITH HOLD`.
    HoldCursor,
    /// A node that no allowed statement holds.
    StrangeNode,
    /// A form of SET whose value cannot be given to `set_config`.
    SettingForm,
    /// `SET TRANSACTION SNAPSHOT`.
    Snapshot,
    /// A name in a temporary schema.
    TemporarySchema,
    /// A relation in the session's own temporary schema, `pg_temp`.
    TemporaryRelation,
    /// A name that only the proxy's own statements, portals and channels have.
    ReservedName,
    /// A function that has a setting of its own while it runs: its canonical name.
    FunctionSetting,
    /// Columns of `pg_class` that count rows of all tenants, or a row of it as a whole.
    Estimates,
    /// A permanent view that reads tables with its owner's rights.
    OwnersView,
    /// A table that is made as a part of another.
    Partition,
    /// Ownership, row-level security, definer's rights: only bypass logins may.
    NeedsBypass,
}
