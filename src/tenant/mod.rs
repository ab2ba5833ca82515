//! Who a tenant is: a validated identity, and how a login's facts become one.

mod id;

pub use id::{TenantFault, TenantId, TenantKind};
