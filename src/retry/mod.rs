//! Retries under a budget.
