//! Who a tenant is: a validated identity, and how a login's facts become one.

mod id;
mod source;

pub use id::{TenantFault, TenantId, TenantKind};
pub use source::{
    AllowedTenants, Glob, GlobFault, Origin, Separator, SeparatorFault, TenantClaims, TenantPolicy, TenantRefusal,
    TenantSource,
};
