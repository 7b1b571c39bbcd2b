//! Reads a script's reply item by item. The scripts' headers describe the items.

use redis::{FromRedisValue, Value};

use crate::domain::{Position, StoreTime};
use crate::store::StoreError;

/// An array.
pub(super) struct Reply {
    script: &'static str,
    values: Vec<Value>,
}

impl Reply {
    pub(super) fn new(script: &'static str, values: Vec<Value>) -> Self {
        Self { script, values }
    }

    /// The text at an index.
    pub(super) fn text_at(&self, index: usize) -> Result<&str, StoreError> {
        match self.values.get(index) {
            Some(Value::BulkString(bytes)) => std::str::from_utf8(bytes).map_err(|_| self.unexpected(index)),
            Some(Value::SimpleString(text)) => Ok(text),
            _ => Err(self.unexpected(index)),
        }
    }

    /// The number at an index.
    pub(super) fn number_at<T: std::str::FromStr>(&self, index: usize) -> Result<T, StoreError> {
        self.text_at(index)?.parse().map_err(|_| self.unexpected(index))
    }

    /// The number at an index, `None` for an empty text.
    pub(super) fn optional_number_at<T: std::str::FromStr>(&self, index: usize) -> Result<Option<T>, StoreError> {
        if self.text_at(index)?.is_empty() { Ok(None) } else { self.number_at(index).map(Some) }
    }

    /// The instant at an index.
    pub(super) fn time_at(&self, index: usize) -> Result<StoreTime, StoreError> {
        self.number_at(index).map(StoreTime::from_millis)
    }

    /// The epoch at an index, and the version after it.
    pub(super) fn position_at(&self, index: usize) -> Result<Position, StoreError> {
        Ok(Position { epoch: self.text_at(index)?.into(), version: self.number_at(index + 1)? })
    }

    /// The texts from an index on.
    pub(super) fn texts_from(&self, index: usize) -> Result<Vec<&str>, StoreError> {
        (index..self.values.len()).map(|index| self.text_at(index)).collect()
    }

    /// The texts of the array at an index.
    pub(super) fn array_at(&self, index: usize) -> Result<Vec<String>, StoreError> {
        let value = self.values.get(index).cloned().ok_or_else(|| self.unexpected(index))?;
        Vec::from_redis_value(value).map_err(|_| self.unexpected(index))
    }

    /// The error for a reply that the script never gives.
    pub(super) fn unexpected(&self, index: usize) -> StoreError {
        StoreError(format!("Redis: the script {} answered something unexpected at {index}", self.script))
    }
}
