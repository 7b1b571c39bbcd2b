//! Tells the sweeper when holds end.

use tokio::sync::mpsc;

use crate::domain::{Bucket, StoreTime};

/// Tells the sweeper when holds end.
#[derive(Clone, Debug)]
pub struct Deadlines(mpsc::UnboundedSender<(Bucket, StoreTime)>);

/// The other end of [`Deadlines`], for [`super::timer::run`].
pub type Told = mpsc::UnboundedReceiver<(Bucket, StoreTime)>;

impl Deadlines {
    /// Makes both ends. If the sweeper's end is dropped, nothing is kept.
    pub fn new() -> (Self, Told) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Notes when a hold of the bucket ends.
    pub fn note(&self, bucket: Bucket, end: StoreTime) {
        // The send fails if there is no sweeper to wake.
        let _ = self.0.send((bucket, end));
    }
}
