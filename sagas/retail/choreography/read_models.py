"""What checkouts and orders are folded into: the audit trail and the read models, as SQL."""

from sagas.choreography.topics import Fold

AUDIT = Fold(
    """
    INSERT INTO choreography_auditentry
           (at, position, event_id, topic, stream, type, source, correlation_id, causation_id, detail)
    SELECT at, position, event_id, topic, stream, type, source, correlation_id, causation_id,
           coalesce(data ->> 'code', data ->> 'failed_at', data ->> 'cancelled_at', '')
      FROM events ORDER BY position
    """
)

ORDERS_BY_CLIENT = Fold(
    """
    INSERT INTO choreography_ordersbyclient AS known
           (generation, client_id, total_orders, last_position, last_order_id, last_checkout_id,
            last_update_ts)
    SELECT %(generation)s, key.client_id, count(*), max(e.position),
           (array_agg((e.data ->> 'order_id')::bigint ORDER BY e.position DESC))[1],
           (array_agg(e.stream ORDER BY e.position DESC))[1],
           max(e.at)
      FROM events e JOIN choreography_clientkey key ON key.id = e.client
     WHERE key.client_id IS NOT NULL
     GROUP BY key.client_id ORDER BY key.client_id
    ON CONFLICT (generation, client_id) DO UPDATE SET
        total_orders = known.total_orders + excluded.total_orders,
        last_position = greatest(known.last_position, excluded.last_position),
        last_order_id = CASE WHEN excluded.last_position > known.last_position
                             THEN excluded.last_order_id ELSE known.last_order_id END,
        last_checkout_id = CASE WHEN excluded.last_position > known.last_position
                                THEN excluded.last_checkout_id ELSE known.last_checkout_id END,
        last_update_ts = greatest(known.last_update_ts, excluded.last_update_ts)
    """,
    forget="DELETE FROM choreography_ordersbyclient WHERE client_id = %(client_id)s",
    table="ordersbyclient",
)

REVENUE_BY_STORE_DAY = Fold(
    """
    INSERT INTO choreography_revenuebystoreday AS known (generation, store_id, day, currency, orders, revenue)
    SELECT %(generation)s, (data ->> 'store_id')::bigint, (at AT TIME ZONE 'UTC')::date, data ->> 'currency',
           count(*), sum((data ->> 'amount')::numeric)
      FROM events GROUP BY 2, 3, 4 ORDER BY 2, 3, 4
    ON CONFLICT (generation, store_id, day, currency) DO UPDATE SET
        orders = known.orders + excluded.orders,
        revenue = known.revenue + excluded.revenue
    """,
    table="revenuebystoreday",
)
