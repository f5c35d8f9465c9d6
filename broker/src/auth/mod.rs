//! Who a certificate speaks for, and what that principal may do.
