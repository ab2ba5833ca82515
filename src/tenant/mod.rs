//! Who a tenant is: a validated identity, how a login's facts become one, and which are frozen.

mod claim;
mod freeze;
mod id;
mod source;

pub use claim::{ClaimedBypass, Claiming};
pub use freeze::{FROZEN_MAX, FreezeFileFault, FreezeReason, FreezeReasonFault, Frozen, FrozenTenants};
pub use id::{TenantFault, TenantId, TenantKind};
pub use source::{
    AllowedTenants, Glob, GlobFault, Origin, Separator, SeparatorFault, TenantClaims, TenantPolicy, TenantRefusal,
    TenantSource,
};
