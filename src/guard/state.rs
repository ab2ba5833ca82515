//! What statements leave in a server's session beyond their transaction, and what takes it away again.
//!
//! Owns: the kinds of such state, which statement leaves or releases which, who may leave which. Does not own: where
//! the state is then (a server that stays with its client: `session` and `scope`).
//!
//! What a statement leaves is an upper bound: a ROLLBACK may undo it. What it releases is no proof that nothing is left.

use super::facts::{Control, Demand, DemandKind, FunctionUse, StatementClass};
use super::functions::FunctionClass;
use super::policy::Preset;

/// Whether a login's clients may leave state on a server, which then stays with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Keeping {
    /// No: such statements are refused.
    #[default]
    Refuse,
    /// Yes: from the first such statement until the state is gone.
    Pin,
    /// The server of the first statement stays whatever is sent (session pooling).
    Session,
}

/// Kinds of session state: a set of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct State(u8);

impl State {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Temporary tables, views, sequences.
    pub const TEMPORARY: Self = Self(1);
    /// Channels that are listened on.
    pub const CHANNELS: Self = Self(2);
    /// Cursors declared WITH HOLD.
    pub const CURSORS: Self = Self(4);
    /// Statements of SQL's PREPARE.
    pub const PREPARED: Self = Self(8);
    /// Advisory locks of the session.
    pub const LOCKS: Self = Self(16);
    /// What `currval` and `lastval` give.
    pub const SEQUENCES: Self = Self(32);
    /// What `setseed` has set, which nothing takes back.
    pub const SEED: Self = Self(64);
    /// Every kind that can be proven gone.
    pub const PROVABLE: Self = Self(63);
    /// Everything.
    pub const ALL: Self = Self(127);

    /// All of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is here and not there.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether there is anything of it here.
    #[must_use]
    pub const fn has(self, kind: Self) -> bool {
        self.0 & kind.0 != 0
    }

    /// Whether nothing of it is missing in `other`.
    #[must_use]
    pub const fn is_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Whether it is nothing.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// From one byte, as [`State::bits`] gives it.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// The kinds in words, with commas between.
    #[must_use]
    pub fn words(self) -> String {
        let names = [
            (Self::TEMPORARY, "temporary"),
            (Self::CHANNELS, "channels"),
            (Self::CURSORS, "cursors"),
            (Self::PREPARED, "prepared"),
            (Self::LOCKS, "locks"),
            (Self::SEQUENCES, "sequences"),
            (Self::SEED, "seed"),
        ];
        let held: Vec<_> = names.iter().filter(|(kind, _)| kind.is_within(self)).map(|(_, name)| *name).collect();
        held.join(",")
    }

    /// As one byte, a bit for each kind.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }
}

/// What one statement does to session state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateUse {
    /// What may be left when its transaction is over.
    pub leaves: State,
    /// What may be gone then.
    pub releases: State,
    /// The name that SQL's PREPARE gives.
    pub prepares: Option<Box<str>>,
}

impl StateUse {
    /// Whether it does nothing to any.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.leaves.is_none() && self.releases.is_none()
    }
}

/// What shapes a statement's use of session state.
pub(super) struct Found<'s> {
    pub class: StatementClass,
    pub control: &'s Control,
    pub functions: &'s [FunctionUse],
    pub demands: &'s [Demand],
    /// A temporary object that is dropped when its transaction ends.
    pub ends_with_transaction: bool,
    /// The name of SQL's PREPARE.
    pub name: Option<Box<str>>,
}

/// What a statement leaves and releases.
pub(super) fn use_of(found: Found<'_>) -> StateUse {
    let Found { class, control, functions, demands, ends_with_transaction, name } = found;
    let mut leaves = left_by_class(class);
    if ends_with_transaction {
        leaves = State::NONE;
    }
    if demands.iter().any(|demand| demand.kind == DemandKind::HoldCursor) {
        leaves = leaves.and(State::CURSORS);
    }
    let mut releases = released_by(class, control);
    for function in functions.iter().filter(|function| function.class == FunctionClass::SessionState) {
        match function_use(&function.name) {
            Some(FunctionState::Leaves(kind)) => leaves = leaves.and(kind),
            Some(FunctionState::Releases(kind)) => releases = releases.and(kind),
            Some(FunctionState::Reads(_)) | None => {}
        }
    }
    StateUse { leaves, releases, prepares: name.filter(|_| class == StatementClass::Prepare) }
}

/// What a class leaves by itself, beside what its functions do. (What a user's function does inside, nobody sees here.)
fn left_by_class(class: StatementClass) -> State {
    use StatementClass as Class;
    match class {
        Class::Listen => State::CHANNELS,
        Class::CreateTemporary => State::TEMPORARY,
        Class::Prepare => State::PREPARED,
        // What they do is in a string or in a file: everything. No preset has them.
        Class::Do | Class::Load | Class::Administration | Class::NotAStatement => State::ALL,
        Class::Select | Class::Insert | Class::Update | Class::Delete | Class::Merge => State::NONE,
        Class::CopyIn | Class::CopyOut | Class::CopyServer => State::NONE,
        // WITH HOLD is a demand; other cursors end with their transaction.
        Class::DeclareCursor | Class::Fetch | Class::CloseCursor => State::NONE,
        Class::Transaction | Class::TwoPhase | Class::SetConstraints => State::NONE,
        // Settings are recorded and brought along.
        Class::Setting | Class::Claim | Class::Show => State::NONE,
        Class::Discard | Class::Deallocate | Class::Unlisten | Class::Notify | Class::AdvisoryUnlockAll => State::NONE,
        // What a prepared statement may say was judged when it was prepared.
        Class::Execute | Class::Explain | Class::Lock | Class::Truncate => State::NONE,
        // As a SELECT of a user's function.
        Class::Call => State::NONE,
        Class::CreateTableAs | Class::DropTemporary | Class::Definition => State::NONE,
        Class::Privileges | Class::Roles | Class::Policies => State::NONE,
        Class::Maintenance | Class::Refresh | Class::Checkpoint => State::NONE,
    }
}

fn released_by(class: StatementClass, control: &Control) -> State {
    match control {
        Control::DiscardAll => State::ALL,
        Control::DiscardTemp => State::TEMPORARY,
        Control::DiscardSequences => State::SEQUENCES,
        Control::UnlistenAll | Control::Unlisten(_) => State::CHANNELS,
        Control::CloseAll | Control::CloseCursor(_) => State::CURSORS,
        Control::DeallocateAll | Control::Deallocate(_) => State::PREPARED,
        Control::AdvisoryUnlockAll => State::LOCKS,
        Control::None if class == StatementClass::DropTemporary => State::TEMPORARY,
        Control::None
        | Control::Begin
        | Control::SetTransaction
        | Control::Commit { .. }
        | Control::Rollback { .. }
        | Control::Savepoint(_)
        | Control::Release(_)
        | Control::RollbackTo(_)
        | Control::Set { .. }
        | Control::Configure(_)
        | Control::SetCharacteristics(_)
        | Control::Reset { .. }
        | Control::Claim(_)
        | Control::ResetAll
        | Control::DiscardPlans
        | Control::Show(_) => State::NONE,
    }
}

/// What a function of the class `session_state` does.
enum FunctionState {
    Leaves(State),
    Releases(State),
    Reads(State),
}

/// `None`: what it leaves cannot be kept from the next client.
fn function_use(name: &str) -> Option<FunctionState> {
    Some(match name {
        "pg_advisory_lock" | "pg_advisory_lock_shared" | "pg_try_advisory_lock" | "pg_try_advisory_lock_shared" => {
            FunctionState::Leaves(State::LOCKS)
        }
        "pg_advisory_unlock" | "pg_advisory_unlock_shared" | "pg_advisory_unlock_all" => {
            FunctionState::Releases(State::LOCKS)
        }
        "pg_listening_channels" => FunctionState::Reads(State::CHANNELS),
        "currval" | "lastval" => FunctionState::Reads(State::SEQUENCES),
        "setseed" => FunctionState::Leaves(State::SEED),
        // Snapshots for others, settings and variables of extensions, connections that a server keeps.
        _ => return None,
    })
}

/// The kind of state that a function needs or makes; `None` where it is refused to everybody.
pub(super) fn kind_of_function(name: &str) -> Option<State> {
    function_use(name).map(|found| match found {
        FunctionState::Leaves(kind) | FunctionState::Releases(kind) | FunctionState::Reads(kind) => kind,
    })
}

/// The kinds that clients of a login may leave. Channels and lock numbers are one name space for all tenants: they are
/// only for those who are trusted with all of them. What sequences and the random seed were last is another's where a
/// server is taken over in the middle of its life, and nothing can tell.
pub(super) fn keepable(preset: Preset, keeping: Keeping) -> State {
    let private = State::TEMPORARY.and(State::CURSORS).and(State::PREPARED);
    let shared = State::CHANNELS.and(State::LOCKS);
    let of_preset = match preset {
        Preset::Tenant => private,
        Preset::Application | Preset::Migration | Preset::Bypass => private.and(shared),
    };
    match keeping {
        Keeping::Refuse => State::NONE,
        Keeping::Pin => of_preset,
        Keeping::Session => of_preset.and(State::SEQUENCES).and(State::SEED),
    }
}

/// Names of the proxy's own portals: a cursor of such a name would be in their way.
pub(super) fn is_portal(name: &str) -> bool {
    name.starts_with("tg_")
}

/// Names that only the proxy's own statements and portals have.
pub(super) fn is_reserved(name: &str) -> bool {
    name.starts_with("tg")
}
