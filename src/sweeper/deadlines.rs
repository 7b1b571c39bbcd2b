//! How the sweeper hears when holds end.

use tokio::sync::mpsc;

use crate::domain::{Bucket, StoreTime};

/// Tells the sweeper when holds end.
#[derive(Clone, Debug)]
pub struct Deadlines(mpsc::UnboundedSender<(Bucket, StoreTime)>);

/// What [`Deadlines`] tell, for [`super::timer::run`].
pub type Told = mpsc::UnboundedReceiver<(Bucket, StoreTime)>;

impl Deadlines {
    /// The two ends. Without a sweeper at the other one, nothing is kept.
    pub fn new() -> (Self, Told) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Notes that a hold of the bucket ends then.
    pub fn note(&self, bucket: Bucket, end: StoreTime) {
        // Without a sweeper there is nobody to wake.
        let _ = self.0.send((bucket, end));
    }
}
