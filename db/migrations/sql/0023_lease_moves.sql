-- A worker moves a lease only as the rules of a lease allow: it takes what is ready or overdue, one epoch further and for an hour at most by this
-- server's clock; what it holds it renews or lets go, at its epoch. What has ended it never touches. That its statements say so is not enough:
-- whoever logs in with its role writes other ones.

CREATE FUNCTION worker_moves_lease() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- Both may hold of a lease that ends while its holder's transaction runs.
    held boolean := OLD.state = 'leased' AND OLD.lease_expires_at > now();
    free boolean := OLD.state = 'ready' OR (OLD.state = 'leased' AND OLD.lease_expires_at <= clock_timestamp());
BEGIN
    IF NOT coalesce(free AND NEW.state = 'leased' AND NEW.epoch = OLD.epoch + 1 OR held AND NEW.epoch = OLD.epoch, false) THEN
        RAISE EXCEPTION 'this role cannot move the lease so' USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF NEW.state = 'leased' AND NOT coalesce(NEW.lease_expires_at <= clock_timestamp() + interval '1 hour', false) THEN
        RAISE EXCEPTION 'this role cannot hold a lease for so long' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION worker_moves_lease() FROM PUBLIC;

CREATE TRIGGER worker_moves_lease BEFORE UPDATE ON shards FOR EACH ROW WHEN (current_user = 'textmill_worker')
    EXECUTE FUNCTION worker_moves_lease();
