import { BalancedOrder, EpochOrder, type VisitOrder } from '@detailflow/data';

/** The order in which training images are visited. */
export const visitOrder = (
  labels: Int32Array,
  { balance, seed }: { readonly balance: number; readonly seed: number },
): VisitOrder =>
  balance > 0
    ? new BalancedOrder({ labels, balance, seed })
    : new EpochOrder({ length: labels.length, seed });
